//! Questions of a child: every one is answered, none with yes unless the core says so.

use agentmux::model::child::{ApprovalAsked, ChildCommand, ChildEvent};

use super::kind::Bench;

fn asked(bench: &mut Bench) -> Vec<ApprovalAsked> {
    bench.run();
    let events = bench.take();
    let asked = |event: &ChildEvent| match event {
        ChildEvent::ApprovalAsked(asked) => asked.clone(),
        other => panic!("a question, not {other:?}"),
    };
    events.iter().map(asked).collect()
}

fn decline(key: &str) -> ChildCommand {
    ChildCommand::Decline { key: key.to_owned(), reason: "not now".to_owned() }
}

/// NB-2: a question waits for the core without an answer of its own, and is then declined in the words of its kind, once.
#[test]
fn every_question_is_told_and_declined_in_its_own_words() {
    Bench::each_open(|mut bench, thread| {
        let questions = bench.fake.asks_everything(&thread);
        let asked = asked(&mut bench);
        let told: Vec<(&str, &str)> =
            asked.iter().map(|asked| (asked.kind.as_str(), asked.summary.as_str())).collect();
        let expected: Vec<(&str, &str)> =
            questions.iter().map(|question| (question.kind, question.summary)).collect();
        assert_eq!(told, expected);
        assert!(bench.fake.answers().is_empty(), "nobody has said anything yet");
        for approval in &asked {
            for _ in 0..2 {
                bench.command(decline(&approval.key));
            }
        }
        let declined: Vec<String> = questions.iter().map(|question| question.declined.clone()).collect();
        assert_eq!(bench.fake.answers(), declined);
    });
}

/// A yes is told in the words of the kind, for ever only where that is offered, and never where more than a yes is wanted.
#[test]
fn every_question_is_approved_in_its_own_words() {
    for always in [false, true] {
        Bench::each_open(|mut bench, thread| {
            let questions = bench.fake.asks_everything(&thread);
            let asked = asked(&mut bench);
            for (approval, question) in asked.iter().zip(&questions) {
                assert_eq!(approval.can_approve, question.approved.is_some(), "{approval:?}");
                assert_eq!(approval.always.is_some(), question.always.is_some(), "{approval:?}");
                assert!(approval.decisions.iter().any(|word| word == "decline"), "{approval:?}");
                let before = bench.fake.answers().len();
                for _ in 0..2 {
                    bench.command(ChildCommand::Approve { key: approval.key.clone(), always });
                }
                let answers = bench.fake.answers();
                assert_eq!(answers.len(), before + 1, "answered once");
                match if always { &question.always } else { &question.approved } {
                    Some(expected) => assert_eq!(answers[before], *expected),
                    None => assert!(answers[before].contains("\"error\""), "{answers:?}"),
                }
            }
            let always = asked[0].always.clone().expect("the command can be approved for ever");
            assert_eq!(always.file, "$CODEX_HOME/rules/default.rules");
            assert_eq!(always.rule, "prefix_rule(pattern=[\"touch\",\"F\"], decision=\"allow\")");
            let tool = &asked[5];
            let kept = tool.always.clone().expect("a tool can be approved for ever");
            assert_eq!(kept.file, "$CODEX_HOME/config.toml");
            assert_eq!(kept.rule, "[mcp_servers.tool.tools.wipe] approval_mode = \"approve\"");
            assert_eq!(
                tool.command.as_deref(),
                Some("wipe {\"what\":\"the disk\"}"),
                "what it would do is shown"
            );
            assert_eq!(asked[0].command.as_deref(), Some("/bin/bash -lc 'touch F'"));
            assert_eq!(asked[0].cwd.as_deref(), Some("/project"));
            assert_eq!(asked[0].decisions, ["accept", "acceptWithExecpolicyAmendment", "cancel", "decline"]);
        });
    }
}

/// Every answer that a question offers beside yes and no can be chosen by its name, and is told in the words of the kind.
#[test]
fn every_other_answer_that_is_offered_can_be_chosen() {
    Bench::each_open(|mut bench, thread| {
        bench.fake.asks_everything(&thread);
        let mut chosen = Vec::new();
        for approval in asked(&mut bench) {
            let plain = ["accept", "acceptWithExecpolicyAmendment", "always", "decline"];
            let is_other = |word: &&String| !plain.contains(&word.as_str());
            let others: Vec<String> = approval.decisions.iter().filter(is_other).cloned().collect();
            let Some(decision) = others.last().cloned() else { continue };
            for _ in 0..2 {
                let (key, decision) = (approval.key.clone(), decision.clone());
                bench.command(ChildCommand::Choose { key, decision });
            }
            chosen.push(format!("{}: {}", approval.kind, others.join(", ")));
        }
        let expected = [
            "command: cancel",
            "change: acceptForSession, cancel",
            "permissions: session",
            "elicitation: cancel",
            "elicitation: cancel, session",
            "elicitation: cancel",
            "command: abort, approved_for_session",
            "change: abort, approved_for_session",
        ];
        assert_eq!(chosen, expected);
        let (cancelled, left) = (r#"{"result":{"decision":"cancel"}}"#, r#"{"result":{"action":"cancel"}}"#);
        let for_session = r#"{"result":{"decision":"approved_for_session"}}"#;
        let longer = r#"{"result":{"permissions":{"network":{"enabled":true}},"scope":"session"}}"#;
        let kept = r#"{"result":{"action":"accept","content":{},"_meta":{"persist":"session"}}}"#;
        let answers = [cancelled, cancelled, longer, left, kept, left, for_session, for_session];
        assert_eq!(bench.fake.answers(), answers, "each once");
    });
}

/// What was answered in a pane needs no answer of ours any more.
#[test]
fn a_question_that_was_answered_elsewhere_is_over() {
    Bench::each_open(|mut bench, thread| {
        let questions = bench.fake.asks_everything(&thread).len();
        let asked = asked(&mut bench);
        assert_eq!(asked.len(), questions);
        for (at, asked) in asked.into_iter().enumerate() {
            bench.fake.settled_elsewhere(&thread, at);
            bench.fake.settled_elsewhere(&thread, at);
            bench.run();
            let resolved = ChildEvent::ApprovalResolved { key: asked.key.clone() };
            assert_eq!(bench.take(), [resolved], "told once");
            bench.command(decline(&asked.key));
        }
        assert!(bench.fake.answers().is_empty());
    });
}

/// The unknown, and questions about threads that are not ours, are refused at once: a child must never wait for nobody.
#[test]
fn an_unknown_question_is_refused_at_once() {
    Bench::each_open(|mut bench, thread| {
        for about in [Some(&thread), None] {
            let before = bench.fake.answers().len();
            let why = bench.fake.asks_the_unknown(about);
            bench.run();
            let answers = bench.fake.answers();
            assert_eq!(answers.len(), before + 1);
            assert!(answers[before].contains("\"error\"") && answers[before].contains(&why), "{answers:?}");
        }
        let told = bench.take();
        let is_sought = |event: &&ChildEvent| matches!(event, ChildEvent::AskUnplaced { .. });
        let sessions: Vec<Option<&str>> = told
            .iter()
            .filter(|event| !is_sought(event))
            .map(|event| match event {
                ChildEvent::AskRefused { session, method } if !method.is_empty() => {
                    session.as_ref().map(|session| session.as_str())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sessions, [Some("reviewer"), None], "and people are told");
    });
}
