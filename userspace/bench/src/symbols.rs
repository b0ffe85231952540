// SPDX-License-Identifier: Apache-2.0
//! Whose an address is: the kernel's symbols with those of its modules (/proc/kallsyms), or a program's (nm).

use anyhow::{Context, Result};

/// One symbol.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    address: u64,
    /// Its name, as a reader writes it.
    pub name: String,
    /// The module it is in, if it is in one.
    pub module: Option<String>,
}

/// Symbols in the order of their addresses.
pub struct Symbols(Vec<Symbol>);

impl Symbols {
    /// From lines `ADDRESS TYPE NAME`, and `[MODULE]` where there is one. Only code counts.
    pub fn parse(text: &str) -> Result<Self> {
        let mut symbols = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else { continue };
            // $x and $d mark code and data for a disassembler.
            if !matches!(kind, "t" | "T" | "w" | "W") || name.starts_with('$') {
                continue;
            }
            let address = u64::from_str_radix(address, 16).with_context(|| format!("a symbol was expected: {line}"))?;
            let module = words.next().map(|module| module.trim_matches(['[', ']']).into());
            symbols.push(Symbol { address, name: format!("{:#}", rustc_demangle::demangle(name)), module });
        }
        // Of several names for one place the first stays: the others are aliases.
        symbols.sort_by_key(|symbol| symbol.address);
        symbols.dedup_by_key(|symbol| symbol.address);
        Ok(Self(symbols))
    }

    /// The symbol that `address` lies behind, and how far.
    pub fn find(&self, address: u64) -> Option<(&Symbol, u64)> {
        let after = self.0.partition_point(|symbol| symbol.address <= address);
        let symbol = self.0.get(after.checked_sub(1)?)?;
        Some((symbol, address - symbol.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_symbol_before_it() {
        let symbols = Symbols::parse(
            "ffff800080010000 T _stext\nffff800080010000 t alias\nffff800080010040 d data\n\
             ffff800080020000 t $x\nffff80007a000100 t _RNvNtCs1234_4loft4vcpu4exit\t[loft]\n",
        )
        .unwrap();
        let name = |address| symbols.find(address).map(|(symbol, offset)| (symbol.name.as_str(), offset));
        assert_eq!(name(0xffff800080010044), Some(("_stext", 0x44)));
        assert_eq!(name(0xffff80007a000104), Some(("loft::vcpu::exit", 4)));
        assert_eq!(name(0x100), None);
        assert_eq!(symbols.find(0xffff80007a000100).unwrap().0.module.as_deref(), Some("loft"));
        assert!(Symbols::parse("xyz t name").is_err());
    }
}
