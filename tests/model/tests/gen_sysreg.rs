// SPDX-License-Identifier: GPL-2.0
//! scripts/gen-sysreg: what it makes of a description, and that it refuses one that it does not understand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

/// Runs the script over these texts. `Ok`: what it printed; `Err`: what it complained about.
fn generate(texts: &[&str]) -> Result<String, String> {
    // Tests run at once, in this process too: each call has a folder of its own.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.join(format!("gen-sysreg-{}-{call}", process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let files: Vec<PathBuf> = (0..texts.len())
        .map(|n| folder.join(n.to_string()))
        .collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).expect("the temporary folder can be written");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/gen-sysreg");
    let run = Command::new("python3")
        .arg(script)
        .args(&files)
        .output()
        .expect("python3 runs");
    fs::remove_dir_all(&folder).expect("the temporary folder can be removed");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if run.status.success() {
        Ok(text(run.stdout))
    } else {
        Err(text(run.stderr))
    }
}

const GOOD: &str = "# A comment\nSysreg A_EL1 3 0 1 2 3\nRes0 63:9\nSignedEnum 8:5 F\n\t0b0000 IMP\n\t0b1111 NI\nEndEnum\n\
                    Field 4 B\nRes1 3:0\nEndSysreg\nSysreg A_EL12 3 5 1 2 3\nMapping A_EL1\nEndSysreg\n";

#[test]
fn a_register() {
    let text = generate(&[GOOD]).expect("a good description");
    for line in [
        "pub mod A_EL1 {",
        "pub const ENCODING: Encoding = Encoding::new(3, 0, 1, 2, 3);",
        "pub const RES0: u64 = 0xfffffffffffffe00;",
        "pub const RES1: u64 = 0xf;",
        "pub const F: Field = Field::signed(5, 4);",
        "pub const F_NI: u64 = 15;",
        "pub const B: Field = Field::new(4, 1);",
        "pub mod A_EL12 {",
        "pub use super::A_EL1::*;",
    ] {
        assert!(text.contains(line), "no '{line}' in:\n{text}");
    }
    assert!(!text.contains("UNKN"));
}

#[test]
fn a_layout_and_a_prefix() {
    let text = "SysregFields L\nField 63:0 ALL\nEndSysregFields\nSysreg R 3 0 0 0 0\nFields L\nEndSysreg\n\
                Sysreg P 3 0 0 0 1\nPrefix FEAT_X\nField 63:0 V\nEndPrefix\nField 63:0 V\nEndSysreg\n";
    let text = generate(&[text]).expect("a good description");
    assert!(text.contains("pub use super::L::*;"));
    assert!(text.contains("pub const FEAT_X_V: Field"));
}

#[test]
fn a_supplement_gives_way() {
    let extra = "Sysreg A_EL1 3 0 1 2 3\nField 63:0 MINE\nEndSysreg\nSysreg B_EL1 3 0 1 2 4\nField 63:0 MINE\nEndSysreg\n";
    let text = generate(&[GOOD, extra]).expect("a good description");
    assert_eq!(text.matches("MINE").count(), 1);
    let wrong = "Sysreg A_EL1 3 0 1 2 7\nField 63:0 MINE\nEndSysreg\n";
    assert!(generate(&[GOOD, wrong])
        .expect_err("another encoding")
        .contains("another encoding"));
}

#[test]
fn what_it_does_not_understand() {
    let register = |body: &str| format!("Sysreg A_EL1 3 0 1 2 3\n{body}EndSysreg\n");
    for (name, text) in [
        ("gap", register("Field 63:9 A\nField 7:0 B\n")),
        ("overlap", register("Field 63:8 A\nField 8:0 B\n")),
        ("short", register("Field 63:8 A\n")),
        ("backwards", register("Field 0:63 A\n")),
        ("twice", register("Field 63:8 A\nField 7:0 A\n")),
        ("reserved", register("Field 63:0 ENCODING\n")),
        ("word", register("Filed 63:0 A\n")),
        ("bits", register("Field x A\n")),
        ("open", "Sysreg A_EL1 3 0 1 2 3\nField 63:0 A\n".to_string()),
        (
            "again",
            register("Field 63:0 A\n") + &register("Field 63:0 A\n"),
        ),
        (
            "numbers",
            "Sysreg A_EL1 3 0 1 2\nField 63:0 A\nEndSysreg\n".to_string(),
        ),
        ("name", register("Field 63:0 a-b\n")),
    ] {
        let error = generate(&[&text]).expect_err(name);
        assert!(error.starts_with("gen-sysreg: "), "{name}: {error}");
    }
}

#[test]
fn registers_in_memory() {
    let text =
        "Mmio ONE 0x8 32\nRes0 31:1\nField 0 SIZE_OF\nEndMmio\nMmio MANY 0x100 64 32\nEndMmio\n";
    let text = generate(&[text]).expect("a good description");
    for line in [
        "pub mod ONE {",
        "pub const OFFSET: u32 = 0x8;",
        "pub const SIZE: u32 = 4;",
        "pub const COUNT: u32 = 1;",
        "pub const RES0: u64 = 0xfffffffe;",
        "pub const SIZE_OF: Field = Field::new(0, 1);",
        "pub mod MANY {",
        "pub const OFFSET: u32 = 0x100;",
        "pub const SIZE: u32 = 8;",
        "pub const COUNT: u32 = 32;",
    ] {
        assert!(text.contains(line), "no '{line}' in:\n{text}");
    }
    for (name, text) in [
        ("no-end", "Mmio R 0x8 32\n"),
        ("odd-place", "Mmio R 0x4 64\nEndMmio\n"),
        ("odd-size", "Mmio R 0x4 16\nEndMmio\n"),
        ("none", "Mmio R 0x4 32 0\nEndMmio\n"),
        ("not-a-number", "Mmio R here 32\nEndMmio\n"),
        ("short", "Mmio R 0x4 32\nField 31:8 F\nEndMmio\n"),
        ("wide", "Mmio R 0x4 32\nField 63:0 F\nEndMmio\n"),
        ("reserved-name", "Mmio R 0x4 32\nField 31:0 SIZE\nEndMmio\n"),
    ] {
        let error = generate(&[text]).expect_err(name);
        assert!(error.starts_with("gen-sysreg: "), "{name}: {error}");
    }
}
