// SPDX-License-Identifier: Apache-2.0
//! Choosing kernel modules out of a tree such as `/lib/modules/RELEASE`: what is needed, with what that needs, in the
//! order in which it has to be loaded.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Why a tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// There is no `modules.dep` in it or in its only subdirectory.
    #[error("{} is not a tree of kernel modules: it has no modules.dep; give the directory that depmod made, such as /lib/modules/RELEASE", .0.display())]
    NotATree(PathBuf),
    /// It holds several releases and none was asked for.
    #[error("{} holds several releases ({}); give one of them: --modules {}/RELEASE", path.display(), releases.join(", "), path.display())]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        releases: Vec<String>,
    },
    /// A file could not be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// An index of a module tree.
#[derive(Debug, Default)]
pub struct Tree {
    root: PathBuf,
    /// Normalised module name to its file, relative to the root.
    files: HashMap<String, String>,
    /// File to the files it needs, as `modules.dep` lists them: the last has to be loaded first.
    needs: HashMap<String, Vec<String>>,
    /// Module name to the names that `modules.softdep` wants loaded before it.
    soft: HashMap<String, Vec<String>>,
    /// Other names of modules, those without wildcards: `crypto_crc32c` is what ext4 asks for.
    aliases: HashMap<String, Vec<String>>,
    release: Option<String>,
}

impl Tree {
    /// Opens `path`: a release's own directory, or a directory that holds `release` (or, without one, a single release).
    pub fn open(path: &Path, release: Option<&str>) -> Result<Self, ModulesError> {
        let root = if path.join("modules.dep").is_file() { path.to_owned() } else { Self::descend(path, release)? };
        let read = |name: &str| {
            let file = root.join(name);
            std::fs::read_to_string(&file).map_err(|error| ModulesError::Read { path: file, error })
        };
        let dep = read("modules.dep")?;
        // depmod always writes these two, but modules load without them.
        let softdep = read("modules.softdep").unwrap_or_default();
        let alias = read("modules.alias").unwrap_or_default();
        let mut tree = Self::parse(&dep, &softdep, &alias);
        tree.release = root.file_name().map(|n| n.to_string_lossy().into_owned());
        tree.root = root;
        Ok(tree)
    }

    fn descend(path: &Path, release: Option<&str>) -> Result<PathBuf, ModulesError> {
        let bases = [path.to_owned(), path.join("lib/modules"), path.join("usr/lib/modules")];
        if let Some(release) = release {
            if let Some(found) = bases.iter().map(|b| b.join(release)).find(|d| d.join("modules.dep").is_file()) {
                return Ok(found);
            }
        }
        let entries = std::fs::read_dir(path).map_err(|error| ModulesError::Read { path: path.to_owned(), error })?;
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| p.join("modules.dep").is_file()).collect();
        found.sort();
        match found.len() {
            0 => Err(ModulesError::NotATree(path.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(ModulesError::Ambiguous {
                path: path.to_owned(),
                releases: found
                    .iter()
                    .filter_map(|p| p.file_name())
                    .map(|n| n.to_string_lossy().into_owned())
                    .collect(),
            }),
        }
    }

    fn parse(dep: &str, softdep: &str, alias: &str) -> Self {
        let mut tree = Self::default();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            tree.files.insert(module_name(file), file.to_owned());
            tree.needs.insert(file.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(module) = words.next() else { continue };
            let mut pre = false;
            for word in words {
                match word {
                    "pre:" => pre = true,
                    "post:" => pre = false,
                    name if pre => tree.soft.entry(normalise(module)).or_default().push(normalise(name)),
                    _ => {}
                }
            }
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            // A colon or a wildcard belongs to a device, not to a name that a module asks for.
            if let (Some("alias"), Some(name), Some(module)) = (words.next(), words.next(), words.next()) {
                if !name.contains([':', '*', '?', '[']) {
                    tree.aliases.entry(normalise(name)).or_default().push(normalise(module));
                }
            }
        }
        tree
    }

    /// The name of the directory: the release, as depmod lays trees out.
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// Whether `name` is a module that can be loaded: it is not built in, and not left out.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(&normalise(name))
    }

    /// The files to load for the modules `names`, dependencies first, each once. Names that the tree has not got are
    /// left out: the kernel has them built in, or nobody has.
    pub fn select(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut order = Vec::new();
        let mut done = HashSet::new();
        for name in names {
            self.add(&normalise(name), &mut order, &mut done);
        }
        order.iter().map(|file| self.root.join(file)).collect()
    }

    fn add(&self, name: &str, order: &mut Vec<String>, done: &mut HashSet<String>) {
        let Some(file) = self.files.get(name) else {
            // An alias names modules, never another alias.
            for module in self.aliases.get(name).into_iter().flatten().filter(|m| self.files.contains_key(*m)) {
                self.add(module, order, done);
            }
            return;
        };
        // Marked before its dependencies are visited: soft dependencies may form a circle.
        if !done.insert(file.clone()) {
            return;
        }
        for soft in self.soft.get(name).into_iter().flatten() {
            self.add(soft, order, done);
        }
        for needed in self.needs.get(file).into_iter().flatten().rev() {
            self.add(&module_name(needed), order, done);
        }
        order.push(file.clone());
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` is the module `ext4`.
pub fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalise(base.split_once(".ko").map_or(base, |(name, _)| name))
}

fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/mbcache.ko.xz:
kernel/fs/jbd2/jbd2.ko.xz:
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
kernel/crypto/crc32c-generic.ko:
";

    fn names(tree: &Tree, wanted: &[&str]) -> Vec<String> {
        tree.select(wanted).iter().map(|p| module_name(&p.to_string_lossy())).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let tree = Tree::parse(DEP, "", "");
        assert_eq!(
            names(&tree, &["ext4", "virtio_net", "jbd2"]),
            ["jbd2", "mbcache", "ext4", "failover", "net_failover", "virtio_net"]
        );
    }

    #[test]
    fn dash_and_underscore_are_one_and_missing_is_skipped() {
        let tree = Tree::parse(DEP, "", "");
        assert_eq!(names(&tree, &["virtio_rng", "virtio_console", "virtio-rng"]), ["virtio_rng"]);
    }

    #[test]
    fn soft_dependencies_before_the_module_count() {
        let softdep = "softdep ext4 pre: crc32c-generic post: virtio-rng\nsoftdep crc32c_generic pre: ext4\n";
        let tree = Tree::parse(DEP, softdep, "");
        assert_eq!(names(&tree, &["ext4"]), ["crc32c_generic", "jbd2", "mbcache", "ext4"]);
    }

    #[test]
    fn a_soft_dependency_of_a_dependency_by_its_other_name() {
        let alias = "alias crypto-crc32c crc32c_generic\nalias crypto-crc32c gone\nalias virtio:d*v* virtio_net\n";
        let tree = Tree::parse(DEP, "softdep jbd2 pre: crypto-crc32c\n", alias);
        assert_eq!(names(&tree, &["ext4"]), ["crc32c_generic", "jbd2", "mbcache", "ext4"]);
    }

    #[test]
    fn trees_are_found_and_refused() {
        let dir = std::env::temp_dir().join(format!("loft-modules-{}", std::process::id()));
        for release in ["1.0", "2.0"] {
            std::fs::create_dir_all(dir.join(release)).unwrap();
            std::fs::write(dir.join(release).join("modules.dep"), DEP).unwrap();
        }
        assert!(Tree::open(&dir, None).unwrap_err().to_string().contains("1.0, 2.0"));
        assert_eq!(Tree::open(&dir, Some("2.0")).unwrap().release(), Some("2.0"));
        assert_eq!(Tree::open(&dir.join("1.0"), None).unwrap().release(), Some("1.0"));
        std::fs::remove_dir_all(dir.join("2.0")).unwrap();
        assert_eq!(Tree::open(&dir, None).unwrap().release(), Some("1.0"));
        std::fs::remove_file(dir.join("1.0/modules.dep")).unwrap();
        assert!(Tree::open(&dir, None).unwrap_err().to_string().contains("no modules.dep"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
