//! GRUB scripts as distributions and people write them, and as nobody should.

use super::lexer::{Part, Token, tokens};
use super::read;
use crate::discover::{Entry, Reader};
use crate::files::tests::Tree;

fn run(script: &str) -> (Vec<Entry>, Vec<String>) {
    run_in(Tree::default(), script)
}

fn run_in(tree: Tree, script: &str) -> (Vec<Entry>, Vec<String>) {
    let tree = tree.and("/boot/grub/grub.cfg", script);
    let mut reader = Reader::new(&tree);
    let entries = read(&mut reader, "/boot/grub/grub.cfg");
    let problems = reader.problems.iter().map(ToString::to_string).collect();
    (entries, problems)
}

#[track_caller]
fn cmdlines(script: &str) -> Vec<String> {
    run(script)
        .0
        .into_iter()
        .map(|entry| entry.cmdline)
        .collect()
}

/// Tokens in a form that reads like a script: parts in brackets, quoted ones with a `!`.
fn shown(script: &str) -> String {
    let mut shown = Vec::new();
    for (token, _) in tokens(script) {
        shown.push(match token {
            Token::End => ";".to_owned(),
            Token::Open => "{".to_owned(),
            Token::Close => "}".to_owned(),
            Token::Word(word) => word
                .parts
                .iter()
                .map(|part| match part {
                    Part::Text {
                        text,
                        quoted: false,
                    } => format!("[{text}]"),
                    Part::Text { text, quoted: true } => format!("[!{text}]"),
                    Part::Variable {
                        name,
                        quoted: false,
                    } => format!("[${name}]"),
                    Part::Variable { name, quoted: true } => format!("[!${name}]"),
                })
                .collect::<String>(),
        });
    }
    shown.join(" ")
}

#[test]
fn scripts_are_cut_into_words_with_their_quoting() {
    for (script, expected) in [
        ("a b;c\nd", "[a] [b] ; [c] ; [d]"),
        ("menuentry x{y}", "[menuentry] [x] { [y] }"),
        ("'a $b' \"c $d\\\"\"", "[!a $b] [!c ][!$d][!\"]"),
        ("a=\"${b}c\"d", "[a=][!$b][!c][d]"),
        ("$x${y z}$1$?", "[$x][$y z][$1][$?]"),
        ("a\\\nb \\$c \\;", "[ab] [!$][c] [!;]"),
        ("# all of it ' \" {\na#b", "; [a#b]"),
        ("$\"translated\" $'too' $", "[!translated] [!too] [$]"),
        ("'' \"\"", " "),
        ("'open", "[!open]"),
        ("\"open $", "[!open $]"),
        ("${open", "[$open]"),
        ("a\r\nb\\\r\nc", "[a] ; [bc]"),
    ] {
        assert_eq!(shown(script), expected, "{script:?}");
    }
}

#[test]
fn variables_expand_as_their_quotes_say() {
    let script = "
        set options='quiet splash'
        set empty=
        menuentry a {
            linux /v $options \"$options\" '$options' x${empty}y $empty \"$empty\" ${missing}
        }";
    assert_eq!(
        cmdlines(script),
        ["quiet splash \"quiet splash\" $options xy "]
    );
}

#[test]
fn a_body_sees_what_the_script_set_last_and_leaves_nothing() {
    let script = "
        menuentry a { set x=inside; linux /v $x $y }
        menuentry b { linux /v $x $y }
        set x=late; y=later";
    assert_eq!(cmdlines(script), ["inside later", "late later"]);
}

#[test]
fn conditions_take_the_branch_of_a_bios_pc() {
    let script = "
        if [ \"$grub_platform\" = \"efi\" ]; then
            set linux=linuxefi
        elif test -z \"$linux\" ; then
            set linux=linux16
        else
            set linux=nothing
        fi
        if ! false; then
            menuentry yes { $linux /v yes }
        fi
        if cpuid -l; then menuentry 64 { linux /v 64 }; else menuentry 32 { linux /v 32 }; fi";
    assert_eq!(cmdlines(script), ["yes", "64"]);
}

#[test]
fn a_script_that_offers_nothing_here_is_asked_for_every_branch() {
    let script = "
        if [ \"$grub_platform\" = \"efi\" ]; then
            menuentry uefi { linux /v uefi }
        fi";
    assert_eq!(cmdlines(script), ["uefi"]);
}

#[test]
fn loops_and_functions_make_entries() {
    let script = "
        function entry {
            menuentry \"$1\" \"$2\" --class x { linux /v flavour=$2 }
        }
        for flavour in full small; do
            entry \"Grml $flavour\" $flavour
        done";
    let (entries, problems) = run(script);
    let titles: Vec<_> = entries.iter().map(|entry| entry.title.as_str()).collect();
    assert_eq!(titles, ["Grml full", "Grml small"]);
    assert_eq!(entries[0].cmdline, "flavour=full");
    assert_eq!(entries[1].cmdline, "flavour=small");
    assert_eq!(problems, [] as [&str; 0]);
}

#[test]
fn other_files_are_read_by_path_and_by_pattern() {
    let tree = Tree::new(&[
        ("/boot/grub/header.cfg", "set common=boot=live\n"),
        (
            "/boot/grub/a_default.cfg",
            "menuentry a { linux /a $common }\n",
        ),
        (
            "/boot/grub/b_default.cfg",
            "menuentry b { linux /b $common }\n",
        ),
        ("/boot/grub/more.cfg", "menuentry c { linux /c $common }\n"),
    ]);
    let script = "
        source $prefix/header.cfg
        for config in /boot/grub/*_default.cfg ; do source \"$config\" ; done
        submenu more { configfile (cd0)/boot/grub/more.cfg }
        menuentry again { configfile /boot/grub/more.cfg }";
    let (entries, problems) = run_in(tree, script);
    let got: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.title.as_str(),
                entry.cmdline.as_str(),
                entry.source.as_str(),
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("a", "boot=live", "/boot/grub/a_default.cfg"),
            ("b", "boot=live", "/boot/grub/b_default.cfg"),
            ("more > c", "boot=live", "/boot/grub/more.cfg"),
            ("again > c", "boot=live", "/boot/grub/more.cfg"),
        ]
    );
    assert_eq!(problems, [] as [&str; 0]);
}

#[test]
fn the_default_is_found_by_number_id_title_and_path() {
    for (default, expected) in [
        ("", "first"),
        ("0", "first"),
        ("second-id", "second"),
        ("Second", "second"),
        ("2>1", "inner2"),
        ("menu-id>inner2-id", "inner2"),
        ("2", ""),
        ("9", ""),
        ("nothing", ""),
    ] {
        let script = format!(
            "set default=\"{default}\"
            menuentry First {{ linux /v first }}
            menuentry Second --id second-id {{ linux /v second }}
            submenu Menu --id=menu-id {{
                menuentry Inner {{ linux /v inner }}
                menuentry 'Inner 2' --id inner2-id {{ linux /v inner2 }}
            }}
            menuentry 'Power off' {{ halt }}"
        );
        let (entries, _) = run(&script);
        assert_eq!(entries.len(), 4);
        let chosen: Vec<_> = entries
            .iter()
            .filter(|entry| entry.default)
            .map(|entry| entry.cmdline.as_str())
            .collect();
        assert_eq!(chosen.join(" "), expected, "default={default:?}");
    }
}

#[test]
fn initrds_are_listed_and_options_are_not() {
    let (entries, _) = run("menuentry a {
        linux (loop)/live/vmlinuz boot=live
        initrd --nofree /early.img newc:x:/y (loop)/live/initrd.img
    }");
    assert_eq!(entries[0].kernel, "/live/vmlinuz");
    assert_eq!(entries[0].initrd, ["/early.img", "/live/initrd.img"]);
}

#[test]
fn a_search_for_a_file_decides_a_branch() {
    let tree = Tree::default().with(&["/.disk/id/42"]);
    let script = "
        if search --set=root --file /.disk/id/41; then menuentry 41 { linux /v 41 }
        elif search --file --set=media /.disk/id/42; then menuentry 42 { linux ($media)/v 42 }
        fi";
    let (entries, _) = run_in(tree, script);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].kernel.as_str(), entries[0].cmdline.as_str()),
        ("/v", "42")
    );
}

#[test]
fn mistakes_are_reported_and_what_surrounds_them_is_read() {
    let (entries, problems) = run("
        fi
        menuentry a { linux /v a }
        }
        while true; do menuentry never { linux /v never }; done
        if true; then menuentry b { linux /v b }
        ");
    let got: Vec<_> = entries.iter().map(|entry| entry.cmdline.as_str()).collect();
    assert_eq!(got, ["a", "b"]);
    assert_eq!(
        problems,
        [
            "/boot/grub/grub.cfg:2: fi without a beginning",
            "/boot/grub/grub.cfg:4: brace without a beginning",
            "/boot/grub/grub.cfg:5: loop on a condition passed over",
            "/boot/grub/grub.cfg:7: no fi",
        ]
    );
}

#[test]
fn scripts_that_read_themselves_end() {
    let (entries, problems) = run("source /boot/grub/grub.cfg\nmenuentry a { linux /v a }");
    assert!(!entries.is_empty());
    assert!(problems.iter().any(|problem| problem.contains("circle")));
}

#[test]
fn menus_that_contain_their_own_file_end() {
    let (entries, problems) =
        run("menuentry a { linux /v a }\nsubmenu b { configfile /boot/grub/grub.cfg }");
    assert!(!entries.is_empty());
    assert!(!problems.is_empty());
}

#[test]
fn functions_that_call_themselves_end() {
    let (entries, problems) = run("
        function f { f; f; menuentry x { linux /v x } }
        f
        menuentry a { linux /v a }");
    assert!(!entries.is_empty());
    assert!(problems.iter().any(|problem| {
        problem.contains("functions call one another too deep")
            || problem.contains("statements run")
    }));
}

#[test]
fn loops_in_loops_end_within_the_budget() {
    let words = "a ".repeat(200);
    let mut script = String::new();
    for level in 0..20 {
        script.push_str(&format!("for v{level} in {words}; do\n"));
    }
    script.push_str("set x=$x$x\n");
    script.push_str(&"done\n".repeat(20));
    let (entries, problems) = run(&script);
    assert_eq!(entries, []);
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("statements run"))
    );
}

#[test]
fn a_variable_that_doubles_stays_bounded() {
    let script = format!(
        "set x=aaaaaaaa\n{}menuentry a {{ linux /v $x$x$x \"$x\" }}",
        "set x=\"$x $x\"\n".repeat(100)
    );
    let (entries, _) = run(&script);
    assert!(entries[0].cmdline.len() <= crate::discover::MAX_TEXT);
}

#[test]
fn blocks_nested_without_end_are_cut_off() {
    for opener in ["if true; then ", "menuentry a { ", "for x in a; do ", "{ "] {
        let (_, problems) = run(&opener.repeat(10_000));
        assert!(
            problems[0].contains("blocks inside one another"),
            "{opener}"
        );
    }
}

#[test]
fn blocks_nested_over_functions_and_files_leave_the_stack_alone() {
    let ifs = "if true; then ".repeat(28);
    let fis = "fi; ".repeat(28);
    let script = format!(
        "function f {{ {ifs} f {fis} }}\n{ifs} f; source /boot/grub/b.cfg; {fis}\n\
         menuentry a {{ linux /v a }}"
    );
    let tree = Tree::new(&[("/boot/grub/b.cfg", &format!("{ifs} f {fis}"))]);
    let (entries, problems) = run_in(tree, &script);
    assert_eq!(entries.len(), 1);
    assert!(problems.iter().any(|problem| problem.contains("too deep")));
}
