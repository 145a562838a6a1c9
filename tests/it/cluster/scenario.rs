//! Scenarios as text: commands, and below each the transcript expected.
//!
//! ```text
//! # a remark
//! command word key=value
//! lines of input
//! ----
//! what it answers
//! ```
//!
//! Blocks are separated by blank lines. `SEEDPOD_RECORD=1 cargo test --test it` writes what was answered over what was
//! expected; review the difference as you would review code.

use std::{fmt::Write as _, path::PathBuf};

pub(super) struct Block {
    remarks: String,
    /// The first line: the command with its words.
    pub(super) command: String,
    /// The lines between it and the rule.
    pub(super) input: String,
    expected: String,
}

impl Block {
    /// The words of the command that are not `key=value`, the command itself first.
    pub(super) fn words(&self) -> Vec<&str> {
        self.command.split_whitespace().filter(|word| !word.contains('=')).collect()
    }

    /// The value of `key=value`.
    pub(super) fn value<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.values(key).next()
    }

    /// All values of `key=value`, in order.
    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.command.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.filter(move |(found, _)| *found == key).map(|(_, value)| value)
    }
}

pub(super) struct Scenario {
    path: PathBuf,
    pub(super) blocks: Vec<Block>,
    answers: Vec<String>,
}

impl Scenario {
    pub(super) fn read(name: &str) -> Scenario {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty()).map(block).collect();
        Scenario { path, blocks, answers: Vec::new() }
    }

    /// What the next block answered.
    pub(super) fn answer(&mut self, text: &str) {
        // a blank line would end the block
        let lines = text.lines().map(|line| if line.trim().is_empty() { "." } else { line.trim_end() });
        self.answers.push(lines.map(|line| format!("{line}\n")).collect());
    }

    /// Compares all answers with what was expected, or records them.
    pub(super) fn finish(self) {
        assert_eq!(self.answers.len(), self.blocks.len());
        if std::env::var_os("SEEDPOD_RECORD").is_some() {
            let mut text = String::new();
            for (block, answer) in self.blocks.iter().zip(&self.answers) {
                let Block { remarks, command, input, .. } = block;
                write!(text, "{}{remarks}{command}\n{input}----\n{answer}", if text.is_empty() { "" } else { "\n" })
                    .unwrap();
            }
            std::fs::write(&self.path, text).unwrap();
            return;
        }
        for (block, answer) in self.blocks.iter().zip(&self.answers) {
            assert!(
                block.expected == *answer,
                "{}: {}\nexpected:\n{}answered:\n{answer}",
                self.path.display(),
                block.command,
                block.expected
            );
        }
    }
}

fn block(text: &str) -> Block {
    let mut block =
        Block { remarks: String::new(), command: String::new(), input: String::new(), expected: String::new() };
    let mut lines = text.trim_matches('\n').lines();
    for line in lines.by_ref() {
        if line.starts_with('#') {
            block.remarks.extend([line, "\n"]);
        } else {
            block.command = line.into();
            break;
        }
    }
    let mut ruled = false;
    for line in lines {
        if line == "----" && !ruled {
            ruled = true;
        } else {
            let part = if ruled { &mut block.expected } else { &mut block.input };
            part.extend([line, "\n"]);
        }
    }
    block
}
