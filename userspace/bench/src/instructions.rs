// SPDX-License-Identifier: Apache-2.0
//! What kind of instruction one is, as far as it matters for its cost.

/// The kinds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Reads of system registers.
    Mrs,
    /// Writes of system registers, PSTATE fields too.
    Msr,
    /// Reads and writes of the GIC's system registers, the CPU interface and the list registers.
    Gic,
    /// ISB.
    Isb,
    /// DSB.
    Dsb,
    /// DMB.
    Dmb,
    /// TLBI.
    Tlbi,
    /// Cache maintenance and address translation (DC, IC, AT).
    Cache,
    /// Load and store exclusive.
    Exclusive,
    /// Atomics of one instruction.
    Atomic,
    /// Other loads.
    Load,
    /// Other stores.
    Store,
    /// Branches, calls and returns.
    Branch,
    /// ERET.
    Eret,
    /// SVC, HVC, SMC, BRK.
    Call,
    /// All else: arithmetic, moves, hints.
    Plain,
}

impl Kind {
    /// All of them, in the order of the table, with their names there and in the file of weights.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::Mrs, "mrs"),
        (Self::Msr, "msr"),
        (Self::Gic, "gic"),
        (Self::Isb, "isb"),
        (Self::Dsb, "dsb"),
        (Self::Dmb, "dmb"),
        (Self::Tlbi, "tlbi"),
        (Self::Cache, "cache"),
        (Self::Exclusive, "excl"),
        (Self::Atomic, "atomic"),
        (Self::Load, "load"),
        (Self::Store, "store"),
        (Self::Branch, "branch"),
        (Self::Eret, "eret"),
        (Self::Call, "call"),
        (Self::Plain, "plain"),
    ];

    /// Of a disassembled instruction.
    pub fn of(text: &str) -> Self {
        let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
        let any = |prefixes: &[&str]| prefixes.iter().any(|prefix| mnemonic.starts_with(prefix));
        match mnemonic {
            "mrs" | "msr" if is_gic(operands) => Self::Gic,
            "mrs" => Self::Mrs,
            "msr" => Self::Msr,
            "isb" => Self::Isb,
            "dsb" => Self::Dsb,
            "dmb" => Self::Dmb,
            "tlbi" => Self::Tlbi,
            "dc" | "ic" | "at" => Self::Cache,
            "sys" => Self::Cache,
            "eret" | "eretaa" | "eretab" => Self::Eret,
            "svc" | "hvc" | "smc" | "brk" => Self::Call,
            "b" | "bl" | "br" | "blr" | "ret" | "retaa" | "retab" | "braa" | "blraa" | "cbz" | "cbnz" | "tbz"
            | "tbnz" => Self::Branch,
            _ if any(&["b."]) => Self::Branch,
            _ if any(&["ldxr", "ldaxr", "ldxp", "ldaxp", "stxr", "stlxr", "stxp", "stlxp"]) => Self::Exclusive,
            _ if any(&["cas", "swp", "ldadd", "ldclr", "ldeor", "ldset", "stadd", "stclr", "steor", "stset"]) => {
                Self::Atomic
            }
            _ if any(&["ld", "prfm"]) => Self::Load,
            _ if any(&["st"]) => Self::Store,
            _ => Self::Plain,
        }
    }
}

/// ICC_, ICV_ and ICH_ registers: by name, or where the disassembler has none by encoding.
fn is_gic(operands: &str) -> bool {
    operands.split([',', ' ']).any(|operand| {
        let operand = operand.to_ascii_lowercase();
        ["icc_", "ich_", "icv_"].iter().any(|prefix| operand.starts_with(prefix))
            || ["s3_0_c12_c8_", "s3_0_c12_c9_", "s3_0_c12_c11_", "s3_0_c12_c12_"]
                .iter()
                .any(|prefix| operand.starts_with(prefix))
            || ["s3_4_c12_c8_", "s3_4_c12_c9_", "s3_4_c12_c11_", "s3_4_c12_c12_", "s3_4_c12_c13_"]
                .iter()
                .any(|prefix| operand.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (text, kind) in [
            ("mrs x0, esr_el2", Kind::Mrs),
            ("msr daifset, #2", Kind::Msr),
            ("msr ich_lr0_el2, x1", Kind::Gic),
            ("mrs x3, S3_4_C12_C11_0", Kind::Gic),
            ("mrs x3, s3_4_c14_c0_6", Kind::Mrs),
            ("isb", Kind::Isb),
            ("dsb ish", Kind::Dsb),
            ("tlbi vmalls12e1is", Kind::Tlbi),
            ("dc civac, x0", Kind::Cache),
            ("ldaxr w0, [x1]", Kind::Exclusive),
            ("stlxr w2, w0, [x1]", Kind::Exclusive),
            ("casa w0, w1, [x2]", Kind::Atomic),
            ("ldadd w0, wzr, [x2]", Kind::Atomic),
            ("stset x0, [x1]", Kind::Atomic),
            ("ldar w0, [x1]", Kind::Load),
            ("ldp x0, x1, [sp], #0x10", Kind::Load),
            ("stlr w0, [x1]", Kind::Store),
            ("sttr x0, [x1]", Kind::Store),
            ("b.ne #0xffff800080010000", Kind::Branch),
            ("bic x0, x0, x1", Kind::Plain),
            ("bfi x0, x0, #1, #2", Kind::Plain),
            ("ret", Kind::Branch),
            ("eret", Kind::Eret),
            ("hvc #0", Kind::Call),
            ("subs x0, x0, #1", Kind::Plain),
        ] {
            assert_eq!(Kind::of(text), kind, "{text}");
        }
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|(_, name)| name).collect();
        let kinds: std::collections::HashSet<_> = Kind::ALL.iter().map(|(kind, _)| kind).collect();
        assert_eq!((names.len(), kinds.len()), (16, 16));
    }
}
