//! `keepfast hold`, `keepfast release`

use crate::app::App;
use crate::args::{HoldArgs, ReleaseArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::values::PointSelector;
use serde_json::json;

pub async fn hold(app: &App, args: HoldArgs) -> Result<Exit, CliError> {
    let point = match &args.point {
        Some(_) => Some(PointSelector::of(args.point.as_ref(), &args.backup)?),
        None => None,
    };
    let engine = app.engine();
    app.out.report(&engine.hold(&args.backup, point.as_ref(), args.until, &args.reason).await?)?;
    Ok(Exit::Done)
}

pub async fn release(app: &App, args: ReleaseArgs) -> Result<Exit, CliError> {
    app.engine().release(&args.id, args.vault.as_deref()).await?;
    app.out.line(&format!("released hold {}", args.id), &json!({"released": args.id}))?;
    Ok(Exit::Done)
}
