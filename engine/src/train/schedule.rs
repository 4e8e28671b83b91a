//! Learning rate by step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Half a cosine, from the peak to the minimum.
    #[default]
    Cosine,
    /// A straight line from the peak to the minimum.
    Linear,
}

/// Warm-up, then decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Learning rate after warm-up.
    pub peak: f64,
    /// Steps over which it rises from 0: step `s` of them has `peak * (s + 1) / warmup_steps`.
    pub warmup_steps: u64,
    /// Steps of the whole run: the last one has the minimum.
    pub total_steps: u64,
    /// How it falls.
    pub kind: ScheduleKind,
    /// The minimum, as a share of the peak.
    pub min_ratio: f64,
}

impl Schedule {
    /// Learning rate of a step, from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let steps = self.total_steps.saturating_sub(self.warmup_steps + 1).max(1);
        let progress = ((step - self.warmup_steps) as f64 / steps as f64).min(1.0);
        let share = match self.kind {
            ScheduleKind::Constant => return self.peak,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            ScheduleKind::Linear => 1.0 - progress,
        };
        self.peak * (self.min_ratio + (1.0 - self.min_ratio) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_minimum() {
        for (kind, middle) in
            [(ScheduleKind::Cosine, 0.55), (ScheduleKind::Linear, 0.55), (ScheduleKind::Constant, 1.0)]
        {
            let schedule = Schedule { peak: 2.0, warmup_steps: 4, total_steps: 15, kind, min_ratio: 0.1 };
            assert_eq!(schedule.learning_rate(0), 0.5);
            assert_eq!(schedule.learning_rate(3), 2.0);
            assert_eq!(schedule.learning_rate(4), 2.0);
            assert!((schedule.learning_rate(9) - 2.0 * middle).abs() < 1e-12, "{kind:?}");
            let end = if kind == ScheduleKind::Constant { 2.0 } else { 0.2 };
            assert!((schedule.learning_rate(14) - end).abs() < 1e-12);
            assert!((schedule.learning_rate(99) - end).abs() < 1e-12, "a run that goes on stays there");
        }
    }
}
