//! `keepfast show`

use crate::app::App;
use crate::args::ShowArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::values::PointSelector;

pub async fn run(app: &App, args: ShowArgs) -> Result<Exit, CliError> {
    let as_of = PointSelector::of(args.point.as_ref(), &args.name)?;
    app.out.report(&app.engine().show(&args.name, &as_of).await?)?;
    Ok(Exit::Done)
}
