//! How points are to be locked: what a request says, and behind it what the configuration says.

use crate::Result;
use crate::error::EngineError;
use jiff::SignedDuration;
use keepfast_model::LockMode;
use keepfast_vault::Retain;

/// How points are to be locked, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetainTerms {
    /// How long; none inside means not at all, whatever earlier points have.
    pub time: Option<Option<SignedDuration>>,
    /// How firmly.
    pub mode: Option<LockMode>,
}

impl RetainTerms {
    /// What these terms ask for where `defaults` fill what they leave out; none means as before.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for a mode where nothing says for how long: nothing would be locked.
    pub fn over(self, defaults: Self) -> Result<Option<Retain>> {
        let mode = self.mode.or(defaults.mode).unwrap_or_default();
        match (self.time.or(defaults.time), self.mode) {
            (Some(Some(time)), _) => Ok(Some(Retain::For { time, mode })),
            (None | Some(None), Some(mode)) => Err(EngineError::Usage {
                what: format!("retain mode '{mode}'"),
                reason: "it says how firmly to lock, and nothing says for how long".into(),
            }),
            (Some(None), None) => Ok(Some(Retain::Nothing)),
            (None, None) => Ok(None),
        }
    }
}
