//! What is written in PowerShell, read by a grammar of the language: the scripts, and the lines for clients.
//!
//! A grammar runs nothing. So beyond syntax the trees are asked for what a run would trip over: names that nothing
//! has set, commands that nobody has, and ways out that the script's own help does not tell of. On Windows, the
//! workflow runs `kill_proxy.ps1` itself.
#![cfg(not(windows))]

mod support;

use std::collections::BTreeSet;

use support::binary::run_command_to_end;
use tree_sitter::{Node, Parser, Tree};

const KILL: &str = include_str!("../kill_proxy.ps1");
const INSTALL: &str = include_str!("../contrib/windows/install-task.ps1");
const TRY_KILL: &str = include_str!("windows/try_kill_proxy.ps1");

const SCRIPTS: [(&str, &str); 3] =
    [("kill_proxy.ps1", KILL), ("install-task.ps1", INSTALL), ("try_kill_proxy.ps1", TRY_KILL)];

/// What PowerShell sets itself, as far as it is used.
const AUTOMATIC: [&str; 6] = ["_", "false", "lastexitcode", "null", "psscriptroot", "true"];

/// The commands that are used, beside the script's own functions: Windows PowerShell 5.1 has them all.
const COMMANDS: [&str; 33] = [
    "ForEach-Object",
    "Get-Command",
    "Get-NetTCPConnection",
    "Get-Process",
    "Get-ScheduledTask",
    "Join-Path",
    "New-Item",
    "New-Object",
    "New-ScheduledTaskAction",
    "New-ScheduledTaskPrincipal",
    "New-ScheduledTaskSettingsSet",
    "New-ScheduledTaskTrigger",
    "Out-String",
    "Register-ScheduledTask",
    "Resolve-Path",
    "Set-StrictMode",
    "Sort-Object",
    "Start-Process",
    "Start-ScheduledTask",
    "Start-Sleep",
    "Stop-Process",
    "Stop-ScheduledTask",
    "Test-Path",
    "Where-Object",
    "Unregister-ScheduledTask",
    "Write-Output",
    "Write-Warning",
    "continue",
    "exit",
    "netstat.exe",
    "powershell.exe",
    "return",
    "throw",
];

fn parse(source: &str) -> Tree {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("grammar and parser fit");
    parser.parse(source, None).expect("no time limit is set")
}

/// The nodes that are wanted, in the order of the text.
fn find<'tree>(node: Node<'tree>, is_wanted: &impl Fn(Node<'tree>) -> bool, found: &mut Vec<Node<'tree>>) {
    if is_wanted(node) {
        found.push(node);
    }
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        find(child, is_wanted, found);
    }
}

/// The texts of all nodes of a kind below a node.
fn texts<'source>(node: Node<'_>, source: &'source str, kind: &str) -> Vec<&'source str> {
    let mut found = Vec::new();
    find(node, &|node| node.kind() == kind, &mut found);
    found.into_iter().map(|node| &source[node.byte_range()]).collect()
}

/// Where the grammar does not follow: line, column and text of each place.
fn errors(source: &str) -> Vec<String> {
    let tree = parse(source);
    let mut found = Vec::new();
    find(tree.root_node(), &|node| node.is_error() || node.is_missing(), &mut found);
    let place = |node: Node<'_>| {
        let at = node.start_position();
        format!("{}:{}: {:?}", at.row + 1, at.column + 1, &source[node.byte_range()])
    };
    found.into_iter().map(place).collect()
}

/// The name of a variable as all its spellings have it: without scope, braces and case. Nothing for one of the
/// environment.
fn name_of(variable: &str) -> Option<String> {
    let name = variable.trim_start_matches(['$', '@']).trim_matches(['{', '}']).to_ascii_lowercase();
    match name.split_once(':') {
        Some(("env", _)) => None,
        Some((_, name)) => Some(name.to_owned()),
        None => Some(name),
    }
}

/// Names that are used, and that nothing in the script sets.
fn unset_variables(source: &str) -> Vec<String> {
    let tree = parse(source);
    let mut set: BTreeSet<String> = AUTOMATIC.iter().map(|name| (*name).to_owned()).collect();
    let sets = ["left_assignment_expression", "script_parameter", "foreach_statement"];
    let mut setters = Vec::new();
    find(tree.root_node(), &|node| sets.contains(&node.kind()), &mut setters);
    for node in setters {
        // A parameter or a loop names it itself; an assignment, first of all that is on its left.
        let mut cursor = node.walk();
        let own = node.children(&mut cursor).find(|child| child.kind() == "variable");
        let name = own.map(|own| &source[own.byte_range()]);
        set.extend(name.or_else(|| texts(node, source, "variable").first().copied()).and_then(name_of));
    }
    let used = texts(tree.root_node(), source, "variable").into_iter().filter_map(name_of);
    used.filter(|name| !set.contains(name)).collect()
}

/// Commands that are neither known nor functions of the script.
fn unknown_commands(source: &str) -> Vec<&str> {
    let tree = parse(source);
    let own = texts(tree.root_node(), source, "function_name");
    let used = texts(tree.root_node(), source, "command_name").into_iter();
    used.filter(|name| !COMMANDS.contains(name) && !own.contains(name)).collect()
}

/// The part of a script's help with this heading.
fn help<'source>(source: &'source str, heading: &str) -> &'source str {
    let (_, rest) = source.split_once(heading).expect("a help with this heading");
    rest.split("\n\n").next().expect("a first part")
}

#[test]
fn the_scripts_have_no_error_of_syntax() {
    for (name, script) in SCRIPTS {
        assert_eq!(errors(script), [""; 0], "{name}");
        assert!(script.is_ascii(), "{name}: Windows PowerShell takes a file without a mark for one in ANSI");
    }
}

#[test]
fn nothing_is_used_that_nothing_has_set_and_nothing_is_called_that_nobody_has() {
    for (name, script) in SCRIPTS {
        assert_eq!(unset_variables(script), [""; 0], "{name}");
        assert_eq!(unknown_commands(script), [""; 0], "{name}");
    }
}

#[test]
fn a_script_that_is_broken_is_found_out() {
    let broken = [
        ("foreach ($id in $ids) {", "foreach ($id in $ids {"),
        ("\nif ($failed -gt 0) {", "\nif ($failed -gt 0 {"),
        ("exit $ExitFailed\n}\n\nif ($ids", "exit $ExitFailed\n\nif ($ids"),
        ("}\ncatch {\n    Write-Warning \"Cannot find", "}\ncatch\n    Write-Warning \"Cannot find"),
    ];
    for (whole, cut) in broken {
        assert!(KILL.contains(whole), "{whole:?} is in the script");
        assert!(!errors(&KILL.replacen(whole, cut, 1)).is_empty(), "{cut:?} is no error");
    }
    assert_eq!(unset_variables(&KILL.replacen("$leftAlone = 0", "$leftAlone1 = 0", 1)), ["leftalone"; 0]);
    assert_eq!(unset_variables(&KILL.replacen("$failed -gt", "$fialed -gt", 1)), ["fialed"]);
    assert_eq!(unknown_commands(&KILL.replacen("Stop-Process", "Kill-Process", 1)), ["Kill-Process"]);
}

/// Ways out are told of in the help, and each is taken for what is told there.
#[test]
fn killing_ends_in_each_way_that_its_help_tells_of_and_in_no_other() {
    // Where a line goes on, it begins further to the right.
    let codes =
        help(KILL, "Exit codes:\n").lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let told: Vec<&str> = codes.map(|(code, _)| code).filter(|code| !code.is_empty()).collect();
    assert_eq!(told, ["0", "1", "2"]);
    let set = |name: &str, value: &str| KILL.contains(&format!("\n${name} = {value}\n"));
    assert!(set("ExitLeftAlone", "1") && set("ExitFailed", "2"));
    let tree = parse(KILL);
    let mut exits = Vec::new();
    find(tree.root_node(), &|node| node.kind() == "flow_control_statement", &mut exits);
    let exits: Vec<&str> = exits.into_iter().map(|node| &KILL[node.byte_range()]).collect();
    let exits: Vec<&str> = exits.into_iter().filter(|text| text.starts_with("exit")).collect();
    let in_order = [
        "exit $ExitFailed",
        "exit $ExitFailed",
        "exit 0",
        "exit $ExitFailed",
        "exit $ExitLeftAlone",
        "exit 0",
    ];
    assert_eq!(exits, in_order, "no Windows, nothing known, nothing there, no rights, left alone, done");
}

/// What can happen, and the one line that is said of it.
#[test]
fn killing_has_a_line_for_each_case() {
    let tree = parse(KILL);
    let said: Vec<&str> = {
        let mut found = Vec::new();
        find(tree.root_node(), &|node| node.kind() == "command", &mut found);
        let texts = found.into_iter().map(|node| &KILL[node.byte_range()]);
        texts.filter(|text| text.starts_with("Write-")).collect()
    };
    for (case, command, part) in [
        ("nothing listens", "Write-Output", "Nothing listens on port $Port."),
        ("another program", "Write-Warning", "It is not $ProxyName and was left alone."),
        ("Windows itself", "Write-Warning", "Windows itself (process $id) listens"),
        ("it went by itself", "Write-Output", "has ended by itself."),
        ("done", "Write-Output", "Stopped $label"),
        ("no rights, or it does not end", "Write-Warning", "Cannot stop ${label}"),
        ("nobody says who listens", "Write-Warning", "Cannot find out what listens"),
    ] {
        let lines: Vec<_> = said.iter().filter(|text| text.contains(part)).collect();
        assert!(lines.len() == 1 && lines[0].starts_with(command), "{case}: {said:#?}");
    }
    // Several processes are gone through one by one, and what became of one does not end the rest.
    let mut loops = Vec::new();
    find(tree.root_node(), &|node| node.kind() == "foreach_statement", &mut loops);
    let body =
        loops.iter().map(|node| &KILL[node.byte_range()]).find(|text| text.starts_with("foreach ($id "));
    let body = body.expect("a loop over the processes");
    assert!(body.contains("Stop-Process") && body.contains("catch {") && !body.contains("exit "), "{body}");
}

#[test]
fn the_lines_for_clients_have_no_error_of_syntax() {
    for client in ["kimi", "claude", "opencode", "openai", "anthropic"] {
        for settings in [&[][..], &[("CLIENT_TOKEN", "sixteen-letters!")]] {
            let arguments = ["env", client, "--shell", "powershell"];
            let ended = run_command_to_end(|command| _ = command.args(arguments), settings);
            assert!(ended.code == Some(0) && ended.stdout.lines().count() > 1, "{ended:?}");
            assert_eq!(errors(&ended.stdout), [""; 0], "{client}: {}", ended.stdout);
        }
    }
}

/// Every document at the root, since blocks move from one to another.
#[test]
fn the_lines_of_the_documents_have_no_error_of_syntax() {
    let mut count = 0;
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a document");
        let blocks = text.split("```powershell\n").skip(1);
        for block in blocks.filter_map(|rest| rest.split("```").next()) {
            assert_eq!(errors(block), [""; 0], "{}: {block}", path.display());
            count += 1;
        }
    }
    assert!(count >= 4, "the blocks are found: {count}");
}

/// A name that is wrong must not cost somebody the task that runs.
#[test]
fn the_old_task_goes_only_when_there_is_a_program_for_the_new_one() {
    let (_, after) = INSTALL.rsplit_once("exit $ExitNotFound").expect("the way out");
    assert!(after.contains("$null = Remove-Task -Name $TaskName"), "{after}");
    assert_eq!(INSTALL.matches("Remove-Task -Name").count(), 2, "the other one is that of -Uninstall");
}
