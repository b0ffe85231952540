// SPDX-License-Identifier: Apache-2.0
//! The manual page, made from the definition of the command line.

use std::io::{self, Write};

/// Writes one page for the program and its subcommands, in roff.
pub fn write(command: clap::Command, to: &mut impl Write) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).manual("loft");
    page.render_title(to)?;
    page.render_name_section(to)?;
    page.render_synopsis_section(to)?;
    page.render_description_section(to)?;
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set() && s.get_name() != "help") {
        let name = sub.get_name().to_owned();
        writeln!(to, ".SH \"LOFT {}\"", name.to_uppercase())?;
        let page = clap_mangen::Man::new(sub.clone().bin_name(format!("loft {name}")));
        for section in [Section::Synopsis, Section::Description, Section::Options, Section::Extra] {
            let mut text = Vec::new();
            match section {
                Section::Synopsis => page.render_synopsis_section(&mut text)?,
                Section::Description => page.render_description_section(&mut text)?,
                Section::Options => page.render_options_section(&mut text)?,
                Section::Extra => {
                    // Lists and examples: lines stay lines.
                    text.extend_from_slice(b".nf\n");
                    page.render_extra_section(&mut text)?;
                    text.extend_from_slice(b".fi\n");
                }
            }
            // Sections of a subcommand are subsections of the page.
            let text = String::from_utf8_lossy(&text).replace(".SH ", ".SS ");
            to.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

enum Section {
    Synopsis,
    Description,
    Options,
    Extra,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// `loft man > man/loft.1` makes the page that is kept in the tree.
    #[test]
    fn the_page_in_the_tree_is_current() {
        let mut now = Vec::new();
        super::write(crate::cli::Cli::command(), &mut now).unwrap();
        let kept = include_str!("../man/loft.1");
        assert!(String::from_utf8(now).unwrap() == kept, "run: cargo run -p loft -- man > loft/man/loft.1");
    }
}
