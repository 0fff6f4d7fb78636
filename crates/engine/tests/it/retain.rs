//! How a statement and the configuration together say for how long, and how firmly, points are locked.

use jiff::SignedDuration;
use keepfast_engine::api::RetainTerms;
use keepfast_engine::{EngineError, Result, backup_request};
use keepfast_model::LockMode;
use keepfast_sql::Statement;
use keepfast_vault::Retain;

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// What `WITH (…)` of a backup asks for where the configuration says so.
fn resolved(with: &str, time: Option<Option<SignedDuration>>, mode: LockMode) -> Result<Option<Retain>> {
    let sql = format!("BACKUP TABLE t TO 'b' {with}");
    let mut parsed = keepfast_sql::parse(&sql).unwrap();
    let Statement::Backup(backup) = parsed.remove(0).statement else { panic!("{sql}") };
    backup_request(&backup).unwrap().retain.over(RetainTerms { time, mode: Some(mode) })
}

#[test]
fn what_a_statement_leaves_out_of_its_locks_is_as_configured() {
    use LockMode::{Compliance, Governance};
    let locks = |mode| Some(Retain::For { time: YEAR, mode });
    let for_a_year = "WITH (retain_for = '365d')";
    assert_eq!(resolved(for_a_year, None, Governance).unwrap(), locks(Governance));
    assert_eq!(resolved(for_a_year, None, Compliance).unwrap(), locks(Compliance));
    let softly = "WITH (retain_mode = governance)";
    assert_eq!(resolved(softly, Some(Some(YEAR)), Compliance).unwrap(), locks(Governance));
    assert_eq!(resolved("", Some(Some(YEAR)), Governance).unwrap(), locks(Governance));
    assert_eq!(resolved("", None, Governance).unwrap(), None);
    let never = resolved("WITH (retain_for = none)", Some(Some(YEAR)), Governance);
    assert_eq!(never.unwrap(), Some(Retain::Nothing));
}

#[test]
fn a_mode_of_locks_without_a_time_is_refused() {
    let softly = "WITH (retain_mode = governance)";
    let never = "WITH (retain_mode = governance, retain_for = none)";
    for (with, time) in [(softly, None), (softly, Some(None)), (never, Some(Some(YEAR)))] {
        let refused = resolved(with, time, LockMode::Compliance).unwrap_err();
        assert!(matches!(refused, EngineError::Usage { .. }), "{with}: {refused}");
    }
}
