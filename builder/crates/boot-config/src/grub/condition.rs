//! Is a `test` or `[` expression true? (GRUB manual 2.06, section 16.3.73 "test".)

use crate::files::{Files, resolve};

/// Evaluates the words between `[` and `]`. What is malformed is false.
pub(super) fn holds(words: &[String], files: &dyn Files) -> bool {
    words
        .split(|word| word == "-o")
        .any(|or| or.split(|word| word == "-a").all(|and| primary(and, files)))
}

fn primary(words: &[String], files: &dyn Files) -> bool {
    let negations = words.iter().take_while(|word| *word == "!").count();
    let words = words.get(negations..).unwrap_or_default();
    let value = match words {
        [] => false,
        [word] => !word.is_empty(),
        [operator, word] => match operator.as_str() {
            "-n" => !word.is_empty(),
            "-z" => word.is_empty(),
            "-f" | "-s" => files.is_file(&resolve("/", word)),
            "-d" => files.is_directory(&resolve("/", word)),
            "-e" => {
                let path = resolve("/", word);
                files.is_file(&path) || files.is_directory(&path)
            }
            _ => false,
        },
        [left, operator, right] => match operator.as_str() {
            "=" | "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            ">" => left > right,
            "<=" => left <= right,
            ">=" => left >= right,
            _ => number(left)
                .zip(number(right))
                .is_some_and(|(left, right)| match operator.as_str() {
                    "-eq" => left == right,
                    "-ne" => left != right,
                    "-lt" => left < right,
                    "-le" => left <= right,
                    "-gt" => left > right,
                    "-ge" => left >= right,
                    _ => false,
                }),
        },
        _ => false,
    };
    value != (negations % 2 == 1)
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Tree;

    #[test]
    fn expressions_hold_as_in_grub() {
        let tree = Tree::default().with(&["/live/vmlinuz"]);
        for (expression, expected) in [
            ("", false),
            ("x", true),
            ("-z x", false),
            ("! -z x", true),
            ("! ! x", true),
            ("-f /live/vmlinuz", true),
            ("-f (loop)/LIVE/vmlinuz", true),
            ("-f /live", false),
            ("-d /live", true),
            ("-e /live", true),
            ("-e /nothing", false),
            ("pc = efi", false),
            ("pc != efi -a x", true),
            ("pc = efi -o pc = pc", true),
            ("10 -gt 9", true),
            ("x -gt 9", false),
            ("a b c d", false),
            ("-f", true),
        ] {
            let words: Vec<String> = expression.split_whitespace().map(Into::into).collect();
            assert_eq!(holds(&words, &tree), expected, "{expression}");
        }
    }
}
