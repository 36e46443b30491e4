//! The network interfaces of this machine.

use std::io;
use std::net::Ipv4Addr;
use std::ptr;

/// IPv4 addresses of the interfaces that are up, loopback among them.
///
/// # Errors
/// The kernel's refusal.
pub fn ipv4_addresses() -> io::Result<Vec<Ipv4Addr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer names a live pointer, which the call sets to a list that we free below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: an element of the list, which lives until it is freed below.
        let interface = unsafe { &*next };
        next = interface.ifa_next;
        let is_up = interface.ifa_flags & libc::IFF_UP as libc::c_uint != 0;
        if !is_up || interface.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: an address of the list; each has a family, and one of AF_INET is a sockaddr_in.
        let address = unsafe {
            if libc::c_int::from((*interface.ifa_addr).sa_family) != libc::AF_INET {
                continue;
            }
            ptr::read_unaligned(interface.ifa_addr.cast::<libc::sockaddr_in>())
        };
        found.push(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)));
    }
    // SAFETY: the list that getifaddrs made, freed once; nothing of it is kept.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_among_them() {
        assert!(super::ipv4_addresses().unwrap().iter().any(std::net::Ipv4Addr::is_loopback));
    }
}
