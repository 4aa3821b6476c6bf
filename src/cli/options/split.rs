//! Commas apart: an option list as libmount writes it, where `"…"` protects commas.

use crate::cli::Failure;

/// The options of a list; empty ones are skipped, quotes are taken off.
pub fn commas(list: &str) -> Result<Vec<String>, Failure> {
    let mut options = Vec::new();
    let mut option = String::new();
    let mut quoted = false;
    for c in list.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                if !option.is_empty() {
                    options.push(std::mem::take(&mut option));
                }
            }
            _ => option.push(c),
        }
    }
    if quoted {
        return Err(Failure::usage(format!("-o {list}: a quote is not closed")));
    }
    if !option.is_empty() {
        options.push(option);
    }
    Ok(options)
}
