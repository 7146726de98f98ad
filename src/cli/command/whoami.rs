//! `agentmux whoami`: who this command speaks as. The relay decides it from the connection, so it is asked.

use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::model::fault::Fault;
use crate::model::mail::FromKind;
use crate::model::name::{BundleName, Name};

/// Arguments of `whoami`.
#[derive(Debug, Args)]
pub struct Whoami {}

/// What it prints.
#[derive(Debug, Serialize)]
pub struct Speaks {
    /// The name.
    pub name: Name,
    /// What kind of sender.
    pub kind: FromKind,
    /// In which bundle.
    pub bundle: BundleName,
    /// The rule that chose the bundle.
    pub rule: String,
    /// Why it is this name.
    pub because: String,
}

pub fn run(context: &Context) -> Result<u8, Fault> {
    let connection = context.connect()?;
    let welcome = connection.welcome.ok_or_else(|| Fault::bug("a connection without a welcome"))?;
    let rule = context.target.bundle.rule.to_owned();
    let speaks = Speaks {
        name: welcome.name,
        kind: welcome.kind,
        bundle: welcome.bundle,
        rule,
        because: welcome.because,
    };
    context.print(&speaks, |speaks| {
        let Speaks { name, kind, bundle, rule, because } = speaks;
        format!("{name} ({}), because: {because}\nbundle {bundle}, by: {rule}\n", kind.as_str())
    });
    Ok(0)
}
