//! How a service's name becomes one for people, and whether it is this machine's. Source: spec mac-app (4.2).

/// Without escapes, superfluous blanks and what the gateway and its network put behind it.
pub fn clean(name: &str) -> String {
    let name = unescaped(name).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = name.as_str();
    loop {
        let short = rest.strip_suffix(" (OpenClaw)").or_else(|| without_count(rest)).unwrap_or(rest);
        if short == rest {
            return rest.to_owned();
        }
        rest = short;
    }
}

/// `\DDD` is a byte, in decimal.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *byte == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let escape = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u8>().ok());
        bytes.push(escape.unwrap_or(*byte));
        rest = if escape.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without a final ` (2)`, with which a network tells equal names apart.
fn without_count(name: &str) -> Option<&str> {
    let (rest, count) = name.strip_suffix(')')?.rsplit_once(" (")?;
    (!count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// `studio-gateway` as `Studio`.
pub fn pretty(name: &str) -> String {
    let words = without_gateway(name).replace(['-', '_'], " ");
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    words.split_whitespace().map(capital).collect::<Vec<_>>().join(" ")
}

fn without_gateway(name: &str) -> &str {
    let short = name.len().checked_sub("gateway".len()).and_then(|at| name.split_at_checked(at));
    match short {
        Some((rest, end)) if end.eq_ignore_ascii_case("gateway") && !rest.is_empty() => {
            rest.trim_end_matches([' ', '-', '_'])
        }
        _ => name,
    }
}

/// Whether one of its names, or the name for people, is that of this machine.
pub fn is_local(host: &str, names: [Option<&str>; 3], display: &str) -> bool {
    let label = |name: &str| without_gateway(name.split('.').next().unwrap_or_default()).to_lowercase();
    let own = label(host);
    names.into_iter().flatten().any(|name| label(name) == own) || display.to_lowercase() == pretty(&own).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        for (raw, cleaned, shown) in [
            ("Studio\\032\\032Mac (OpenClaw)", "Studio Mac", "Studio Mac"),
            ("studio-mac (OpenClaw) (2)", "studio-mac", "Studio Mac"),
            ("studio_gateway (3) (OpenClaw)", "studio_gateway", "Studio"),
            ("M\\195\\188ller", "Müller", "Müller"),
            ("a\\999 (x) ()", "a\\999 (x) ()", "A\\999 (x) ()"),
            ("gateway", "gateway", "Gateway"),
            ("é\\", "é\\", "É\\"),
            ("", "", ""),
        ] {
            assert_eq!(clean(raw), cleaned, "{raw}");
            assert_eq!(pretty(&clean(raw)), shown, "{raw}");
        }
    }

    #[test]
    fn this_machine_is_known_by_any_of_its_names() {
        let local = |names, display| is_local("Studio-Mac.local", names, display);
        assert!(local([Some("studio-mac.local"), None, None], "x"));
        assert!(local([None, Some("STUDIO-MAC.tail.example"), None], "x"));
        assert!(local([None, None, Some("studio-mac-gateway")], "x"));
        assert!(local([None, None, Some("x")], "studio mac"));
        assert!(!local([Some("studio.local"), Some("mac"), Some("studio-mac2")], "Studio"));
    }
}
