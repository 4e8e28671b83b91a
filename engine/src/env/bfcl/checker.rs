//! BFCL's multi-turn checker: after each turn, the model's world must equal the ground truth's, and the results of the
//! ground truth's calls must be among the model's results so far.

use super::BfclContext;
use super::world::{BfclWorld, WorldError};
use crate::agent::Trajectory;
use crate::env::Environment;
use crate::task::TaskSpec;
use crate::trace::{ErrorType, TurnVerdict, Verdict};

/// Checks a conversation turn by turn, beside the model's own world.
#[derive(Clone)]
pub struct Checker<'a> {
    task: &'a TaskSpec,
    truth: BfclWorld,
    turn: usize,
    /// All results of the model so far. Results of earlier turns stay usable.
    model_results: Vec<String>,
}

impl<'a> Checker<'a> {
    /// A checker before the first turn.
    pub fn new(task: &'a TaskSpec, context: &BfclContext) -> Result<Self, WorldError> {
        Ok(Self { task, truth: BfclWorld::new(task, context)?, turn: 0, model_results: Vec::new() })
    }

    /// A checker before the first turn, with the world already made.
    pub fn with_world(task: &'a TaskSpec, mut truth: BfclWorld) -> Self {
        truth.reset();
        Self { task, truth, turn: 0, model_results: Vec::new() }
    }

    /// The world as the ground truth leaves it after the turns checked so far.
    pub fn truth(&self) -> &BfclWorld {
        &self.truth
    }

    /// Checks the next turn: `model` is the model's world after it, `results` what its calls in this turn answered.
    ///
    /// Goes on after a failed turn, as a reader wants to see the rest; the official verdict is that of the first failure.
    /// Panics when called for more turns than the task has.
    pub fn check_turn<S: Into<String>>(
        &mut self,
        model: &BfclWorld,
        results: impl IntoIterator<Item = S>,
    ) -> TurnVerdict {
        let before = self.model_results.len();
        self.model_results.extend(results.into_iter().map(Into::into));
        let is_empty = self.model_results.len() == before;
        let calls = &self.task.turns[self.turn].ground_truth;
        self.turn += 1;
        let ground_truth_results: Vec<_> = calls.iter().map(|call| self.truth.execute(call)).collect();
        let verdict = TurnVerdict { valid: true, ground_truth_results, ..TurnVerdict::default() };
        if calls.is_empty() {
            return TurnVerdict { unchecked: true, ..verdict };
        }
        if is_empty {
            return failed(verdict, ErrorType::EmptyTurnModelResponse);
        }
        if !model.same_state(&self.truth) {
            let differences = model.differences(&self.truth);
            return TurnVerdict { differences, ..failed(verdict, ErrorType::InstanceStateMismatch) };
        }
        let missing_results = missing(&verdict.ground_truth_results, &self.model_results);
        if !missing_results.is_empty() {
            return TurnVerdict { missing_results, ..failed(verdict, ErrorType::ExecutionResponseMismatch) };
        }
        verdict
    }
}

fn failed(verdict: TurnVerdict, error_type: ErrorType) -> TurnVerdict {
    TurnVerdict { valid: false, error_type: Some(error_type), ..verdict }
}

/// The items of `expected` that are left when each takes one equal item of `found` away.
fn missing(expected: &[String], found: &[String]) -> Vec<String> {
    let mut available: Vec<_> = found.iter().collect();
    expected
        .iter()
        .filter(|item| match available.iter().position(|candidate| candidate == item) {
            Some(index) => {
                available.swap_remove(index);
                false
            }
            None => true,
        })
        .cloned()
        .collect()
}

/// What a whole trajectory came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The official verdict.
    pub verdict: Verdict,
    /// One verdict for each turn that both the task and the trajectory have.
    pub turn_verdicts: Vec<TurnVerdict>,
    /// Result texts, a list per turn of the trajectory.
    pub execution: Vec<Vec<String>>,
}

/// Whether the official scorer drops a step: it has no calls, or its only call is the empty text.
pub fn is_empty_step(calls: &[String]) -> bool {
    match calls {
        [] => true,
        [only] => only.is_empty(),
        _ => false,
    }
}

/// Executes and checks a whole trajectory. Every turn of it is executed, also after a failure.
pub fn score_trajectory(task: &TaskSpec, trajectory: &Trajectory, context: &BfclContext) -> Result<Score, WorldError> {
    let mut model = BfclWorld::new(task, context)?;
    // Worlds are deterministic: as long as the model's calls are the ground truth's, so are its world and results, and one
    // world stands for both. The checker comes with the first turn that differs.
    let mut checker: Option<Checker> = None;
    let mut turn_verdicts: Vec<TurnVerdict> = Vec::with_capacity(trajectory.len());
    let mut execution: Vec<Vec<String>> = Vec::with_capacity(trajectory.len());
    for (turn, steps) in trajectory.iter().enumerate() {
        let calls = || steps.iter().filter(|calls| !is_empty_step(calls)).flatten();
        let truth = task.turns.get(turn).map(|turn| turn.ground_truth.as_slice());
        if checker.is_none() && truth.is_some_and(|truth| !calls().eq(truth)) {
            let model_results = execution.iter().flatten().cloned().collect();
            checker = Some(Checker { task, truth: model.clone(), turn, model_results });
        }
        let results: Vec<_> = calls().map(|call| model.execute(call)).collect();
        match (&mut checker, truth) {
            (_, None) => {}
            (Some(checker), _) => turn_verdicts.push(checker.check_turn(&model, results.iter().cloned())),
            (None, Some(truth)) => turn_verdicts.push(TurnVerdict {
                valid: true,
                unchecked: truth.is_empty(),
                ground_truth_results: results.clone(),
                ..TurnVerdict::default()
            }),
        }
        execution.push(results);
    }
    let verdict = overall(task, trajectory.len(), &turn_verdicts);
    Ok(Score { verdict, turn_verdicts, execution })
}

/// The official verdict of a conversation of `turns` turns with these verdicts.
pub fn overall(task: &TaskSpec, turns: usize, turn_verdicts: &[TurnVerdict]) -> Verdict {
    if turns != task.turns.len() {
        let turn = Some(turns.min(task.turns.len()));
        return Verdict { valid: false, error_type: Some(ErrorType::ForceTerminated), turn };
    }
    match turn_verdicts.iter().position(|verdict| !verdict.valid) {
        Some(turn) => Verdict { valid: false, error_type: turn_verdicts[turn].error_type, turn: Some(turn) },
        None => Verdict { valid: true, error_type: None, turn: None },
    }
}

#[cfg(test)]
mod tests {
    use super::{is_empty_step, missing};

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn a_step_of_one_empty_text_is_no_step() {
        assert!(is_empty_step(&[]) && is_empty_step(&texts(&[""])));
        assert!(!is_empty_step(&texts(&["", ""])) && !is_empty_step(&texts(&[" "])));
    }

    #[test]
    fn results_are_compared_as_multisets() {
        assert!(missing(&texts(&["a", "b"]), &texts(&["b", "x", "a"])).is_empty());
        assert_eq!(missing(&texts(&["a", "a"]), &texts(&["a", "b"])), texts(&["a"]));
        assert_eq!(missing(&texts(&["c"]), &[]), texts(&["c"]));
    }
}
