//! Times as people type them: `90`, `90s`, `15m`, `2h`.

use std::time::Duration;

/// Seconds, or a number with s, m, h or d.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let unit = match suffix {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(refusal(text)),
    };
    let number: u64 = number.parse().map_err(|_| refusal(text))?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(refusal(text)),
    }
}

fn refusal(text: &str) -> String {
    format!("`{text}` is not a time: write seconds, or a number with s, m, h or d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "0", "h", "1.5h", "3w", "99999999999999999999"] {
            assert!(parse(text).unwrap_err().contains("not a time"), "{text}");
        }
    }
}
