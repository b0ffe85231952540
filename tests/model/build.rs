// SPDX-License-Identifier: GPL-2.0
//! Makes sysreg.rs, the system registers' constants, and tells the models where it is (`LOFT_GEN`).
//!
//! It comes from the kernel source: from the file that `LOFT_SYSREG` names, else from the newest kernel that
//! `scripts/kernel` has prepared. A set `LOFT_GEN` is a folder that has sysreg.rs already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    for variable in [
        "LOFT_GEN",
        "LOFT_SYSREG",
        "LOFT_CACHE",
        "XDG_CACHE_HOME",
        "HOME",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let folder = match env::var_os("LOFT_GEN") {
        Some(folder) => PathBuf::from(folder),
        None => generate(),
    };
    println!("cargo::rustc-env=LOFT_GEN={}", folder.display());
}

fn generate() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = top.join("scripts/gen-sysreg");
    let extra = ["sysreg/extra.sysreg", "vgic/gic.sysreg", "its/its.sysreg"]
        .map(|file| top.join("rust/model").join(file));
    let Some(sysreg) = env::var_os("LOFT_SYSREG")
        .map(PathBuf::from)
        .or_else(prepared)
    else {
        panic!("no kernel source found: run `scripts/kernel 7.2`, or set LOFT_SYSREG to its arch/arm64/tools/sysreg");
    };
    for file in extra.iter().chain([&script, &sysreg]) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let run = Command::new("python3")
        .arg(&script)
        .arg(&sysreg)
        .args(&extra)
        .output();
    let run = run.unwrap_or_else(|error| panic!("python3 does not run: {error}"));
    assert!(
        run.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&run.stderr)
    );
    fs::write(out.join("sysreg.rs"), run.stdout).expect("OUT_DIR can be written");
    out
}

/// The description in the newest prepared kernel. The cache is /cache in the build root.
fn prepared() -> Option<PathBuf> {
    let home = |name: &str, rest: &str| env::var_os(name).map(|path| Path::new(&path).join(rest));
    [
        Some("/cache".into()),
        home("LOFT_CACHE", ""),
        home("XDG_CACHE_HOME", "loft"),
        home("HOME", ".cache/loft"),
    ]
    .into_iter()
    .flatten()
    .filter_map(|cache: PathBuf| fs::read_dir(cache).ok())
    .flatten()
    .filter_map(|entry| Some(entry.ok()?.path().join("source/arch/arm64/tools/sysreg")))
    .filter(|path| path.is_file())
    .max()
}
