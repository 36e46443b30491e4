//! A filter of system calls (seccomp): a process behind it gets no socket but Unix ones.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// `AUDIT_ARCH_…` of this build: the numbers of calls are those of one architecture. None: no filter.
pub(super) const ARCHITECTURE: Option<u32> = match () {
    () if cfg!(target_arch = "x86_64") => Some(0xC000_003E),
    () if cfg!(target_arch = "aarch64") => Some(0xC000_00B7),
    () => None,
};
/// Of `struct seccomp_data`: number of the call, architecture, low half of the first argument (both
/// architectures are little-endian).
const CALL: u32 = 0;
const ARCHITECTURE_FIELD: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
/// Numbers from here on are x86_64's second set of the same calls.
const SECOND_SET: u32 = 0x4000_0000;
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES.cast_unsigned();

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const IS: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const IS_AT_LEAST: u32 = BPF_JMP | BPF_JGE | BPF_K;
const ANSWER: u32 = BPF_RET | BPF_K;

/// `if_true` and `if_false`: how many instructions are skipped.
const fn step(code: u32, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: if_true, jf: if_false, k }
}

static FILTER: [sock_filter; 10] = [
    step(LOAD, ARCHITECTURE_FIELD, 0, 0),
    step(
        IS,
        match ARCHITECTURE {
            Some(architecture) => architecture,
            None => 0,
        },
        0,
        7,
    ),
    step(LOAD, CALL, 0, 0),
    step(IS_AT_LEAST, SECOND_SET, 5, 0),
    // It makes sockets without a system call of their own.
    step(IS, libc::SYS_io_uring_setup as u32, 4, 0),
    step(IS, libc::SYS_socket as u32, 0, 2),
    step(LOAD, FIRST_ARGUMENT, 0, 0),
    step(IS, libc::AF_UNIX.cast_unsigned(), 0, 1),
    step(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    step(ANSWER, REFUSED, 0, 0),
];

/// For this process and what it starts, for good. It may gain no privileges any more. Async-signal-safe.
pub(super) unsafe fn install() -> libc::c_int {
    let program = libc::sock_fprog { len: FILTER.len() as libc::c_ushort, filter: FILTER.as_ptr().cast_mut() };
    // SAFETY: the filter is static, and the kernel copies it.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }
}
