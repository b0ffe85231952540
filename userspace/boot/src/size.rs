// SPDX-License-Identifier: Apache-2.0
//! Sizes as people write them: `512M`, `2G`.

/// Parses a number of bytes with an optional unit: K, M, G or T (powers of 1024, either case, `B` or `iB` may follow).
/// A number without a unit is refused: it is bytes to some programs, and MiB to others.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a size; write a number with a unit, such as 512M or 2G");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    if digits == text.len() {
        return Err(format!("'{text}' has no unit; write {text}M for MiB, or {text}G for GiB"));
    }
    let unit = text[digits..].to_ascii_uppercase();
    let shift = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
        "" if unit == "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is more than any machine has"))
}

/// `bytes` with the largest unit that leaves at least one, one decimal where it is not whole.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 {
            let whole = bytes >> shift;
            let tenth = ((bytes - (whole << shift)) * 10) >> shift;
            return if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") };
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("4096B"), Ok(4096));
        assert!(parse("512").unwrap_err().contains("512M"));
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("2g"), Ok(2 << 30));
        assert_eq!(parse("1GiB"), Ok(1 << 30));
        assert_eq!(parse("3KB"), Ok(3 << 10));
        for bad in ["", "M", "1X", "-1", "1.5G", "0x10", "99999999T", "1MM", "512", "1iB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shown() {
        assert_eq!(show(512), "512 bytes");
        assert_eq!(show(1 << 30), "1 GiB");
        assert_eq!(show(3 << 29), "1.5 GiB");
    }
}
