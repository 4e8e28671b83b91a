//! The timeline: a conversation as a row of moments that Play goes through one by one.

use parl_mt::playback::Playback;

/// Something that happens in a conversation, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The user speaks.
    TurnOpened {
        /// Which turn.
        turn: usize,
    },
    /// A call is made and answered.
    Called {
        /// Which turn.
        turn: usize,
        /// Which step of it.
        step: usize,
        /// Which call of the step.
        index: usize,
    },
    /// The turn has ended and the checker gives its verdict.
    TurnChecked {
        /// Which turn.
        turn: usize,
        /// Whether it passed.
        valid: bool,
        /// Whether there was nothing to check.
        unchecked: bool,
    },
}

impl Moment {
    /// The turn it belongs to.
    pub fn turn(self) -> usize {
        match self {
            Self::TurnOpened { turn } | Self::Called { turn, .. } | Self::TurnChecked { turn, .. } => turn,
        }
    }
}

/// The moments of a conversation. Never empty for a task that has a turn.
pub fn moments(playback: &Playback) -> Vec<Moment> {
    let mut moments = Vec::new();
    for (turn, record) in playback.conversation.turns.iter().enumerate() {
        moments.push(Moment::TurnOpened { turn });
        for (step, taken) in record.steps.iter().enumerate() {
            moments.extend((0..taken.calls.len()).map(|index| Moment::Called { turn, step, index }));
        }
        if let Some(verdict) = playback.turn_verdicts.get(turn) {
            moments.push(Moment::TurnChecked { turn, valid: verdict.valid, unchecked: verdict.unchecked });
        }
    }
    moments
}

/// Where a conversation stands when it is opened: its first turn is complete, so that there is something to see.
pub fn opening_position(moments: &[Moment]) -> usize {
    moments
        .iter()
        .position(|moment| matches!(moment, Moment::TurnChecked { .. }))
        .unwrap_or(moments.len().saturating_sub(1))
}

/// Where the next turn begins; the end if there is none.
pub fn next_turn(moments: &[Moment], position: usize) -> usize {
    let is_start = |moment: &Moment| matches!(moment, Moment::TurnOpened { .. });
    let later = moments.iter().enumerate().skip(position + 1).find(|(_, moment)| is_start(moment));
    later.map_or(moments.len().saturating_sub(1), |(index, _)| index)
}

/// Where this turn begins, or the one before when already there.
pub fn previous_turn(moments: &[Moment], position: usize) -> usize {
    let before = &moments[..position.min(moments.len())];
    before.iter().rposition(|moment| matches!(moment, Moment::TurnOpened { .. })).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<Moment> {
        vec![
            Moment::TurnOpened { turn: 0 },
            Moment::Called { turn: 0, step: 0, index: 0 },
            Moment::TurnChecked { turn: 0, valid: true, unchecked: false },
            Moment::TurnOpened { turn: 1 },
            Moment::TurnChecked { turn: 1, valid: true, unchecked: true },
        ]
    }

    #[test]
    fn jumps_go_from_turn_to_turn() {
        let moments = example();
        assert_eq!(opening_position(&moments), 2);
        assert_eq!(next_turn(&moments, 0), 3);
        assert_eq!(next_turn(&moments, 3), 4);
        assert_eq!(previous_turn(&moments, 4), 3);
        assert_eq!(previous_turn(&moments, 3), 0);
        assert_eq!(previous_turn(&moments, 0), 0);
        assert_eq!((opening_position(&[]), next_turn(&[], 0), previous_turn(&[], 5)), (0, 0, 0));
    }
}
