//! Sizes as people type them: `512`, `64K`, `100M`, `8G`, `1T`.

use crate::units::{GIB, KIB, MIB};

/// Bytes of a number with an optional K, M, G or T (powers of 1024; `KiB` and `k` too).
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let unit = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "t" | "tib" => GIB * 1024,
        _ => {
            return Err(format!(
                "`{text}` is not a size: write a number with K, M, G or T"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a size: write a number with K, M, G or T"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("`{text}` is more than 64 bits hold"))
}

/// The size in the largest unit that leaves no fraction: `64 MiB`, `4097 bytes`.
pub fn in_words(bytes: u64) -> String {
    for (unit, name) in [
        (GIB * 1024, "TiB"),
        (GIB, "GiB"),
        (MIB, "MiB"),
        (KIB, "KiB"),
    ] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        assert_eq!(parse("512"), Ok(512));
        assert_eq!(parse("4k"), Ok(4096));
        assert_eq!(parse("64MiB"), Ok(64 * MIB));
        assert_eq!(parse("8G"), Ok(8 * GIB));
        assert_eq!(parse("1T"), Ok(1024 * GIB));
        assert_eq!(in_words(64 * MIB), "64 MiB");
        assert_eq!(in_words(4097), "4097 bytes");
    }

    #[test]
    fn what_is_not_a_size_is_named() {
        for text in ["", "G", "1.5G", "12X", "-1", "99999999999T"] {
            assert!(
                parse(text).unwrap_err().contains(&format!("`{text}`")),
                "{text}"
            );
        }
    }
}
