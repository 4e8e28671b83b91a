//! How training shows on a terminal: a bar that moves, or plain lines.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use parl_mt::platform;
use parl_mt::train::event::{EventSink, FinishReason, TrainEvent};
use parl_mt::train::metrics::{self, Metrics};

/// Seconds between two plain lines about updates.
const PLAIN_LINE_EVERY: f64 = 5.0;

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// A bar on a terminal, lines elsewhere.
    Progress,
    /// Evaluations, checkpoints, warnings and the end, as lines.
    Quiet,
}

/// Shows a run on stderr as it happens.
pub struct Display {
    bar: Option<ProgressBar>,
    verbosity: Verbosity,
    max_steps: u64,
    first_step: Option<u64>,
    started: f64,
    last_line: f64,
}

impl Display {
    /// A display for a run of so many updates, of which some may be made already.
    pub fn new(verbosity: Verbosity, max_steps: u64, step: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && verbosity == Verbosity::Progress;
        let bar = on_terminal.then(|| {
            let bar = ProgressBar::new(max_steps).with_position(step).with_style(style()).with_prefix("training");
            // What was made before tells nothing about the speed of now.
            bar.reset_eta();
            bar
        });
        Self { bar, verbosity, max_steps, first_step: None, started: platform::now(), last_line: f64::NEG_INFINITY }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody is there to hear of an error of stderr.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn step(&mut self, step: u64, metrics: &Metrics) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(metrics_line(metrics));
            return;
        }
        let first = *self.first_step.get_or_insert(step);
        let now = platform::now();
        let due = now - self.last_line >= PLAIN_LINE_EVERY || step == self.max_steps;
        if self.verbosity == Verbosity::Progress && due {
            self.last_line = now;
            let made = (step - first + 1) as f64;
            let left = (now - self.started) / made * self.max_steps.saturating_sub(step) as f64;
            self.line(&step_line(step, self.max_steps, metrics, left));
        }
    }
}

impl EventSink for Display {
    fn emit(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Step { step, metrics } => self.step(*step, metrics),
            TrainEvent::RunStarted { .. } | TrainEvent::Rollouts { .. } => {}
            other => {
                if let Some(text) = event_line(other) {
                    self.line(&text);
                }
                if matches!(other, TrainEvent::Stopped { .. } | TrainEvent::Finished { .. })
                    && let Some(bar) = self.bar.take()
                {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {wide_msg}  {eta} left")
        .expect("the template is a constant that is tried in tests")
}

/// The few metrics that tell how it goes.
fn metrics_line(metrics: &Metrics) -> String {
    let shown = [metrics::LOSS, metrics::REWARD, metrics::ENTROPY, metrics::LEARNING_RATE];
    let mut parts: Vec<String> = Vec::new();
    for name in shown {
        if let Some(value) = metrics.get(name) {
            let label = if name == metrics::LEARNING_RATE { "lr" } else { name };
            parts.push(format!("{label} {}", number(value)));
        }
    }
    if let Some(speed) = metrics.get(metrics::TOKENS_PER_SECOND) {
        parts.push(format!("{} tokens/s", thousands(speed)));
    }
    parts.join("  ")
}

fn step_line(step: u64, max_steps: u64, metrics: &Metrics, left: f64) -> String {
    let width = max_steps.to_string().len();
    format!("step {step:>width$}/{max_steps}  {}  {} left", metrics_line(metrics), duration(left))
}

/// An event in one line; none for those that are no news.
fn event_line(event: &TrainEvent) -> Option<String> {
    Some(match event {
        TrainEvent::Evaluated { step, metrics } => {
            let values: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {}", number(value))).collect();
            format!("evaluated after step {step}: {}", values.join("  "))
        }
        TrainEvent::CheckpointSaved { step, bytes } => format!("checkpoint of step {step} ({})", size(*bytes)),
        TrainEvent::Paused { step } => format!("paused after step {step}"),
        TrainEvent::Resumed { step } => format!("going on after step {step}"),
        TrainEvent::Stopped { step, reason } => format!("stopped after step {step}: {reason}"),
        TrainEvent::Finished { step, reason } => match reason {
            FinishReason::MaxSteps => format!("finished after step {step}"),
            FinishReason::EarlyStopping => {
                format!("finished after step {step}: evaluation no longer gets better (early stopping)")
            }
        },
        TrainEvent::Warning { step, message } => format!("warning in step {step}: {message}"),
        TrainEvent::RunStarted { .. } | TrainEvent::Step { .. } | TrainEvent::Rollouts { .. } => return None,
    })
}

/// Four digits that mean something: `0.01235`, `1.235`, `9.8e-5`.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    match magnitude {
        ..-3 => {
            let text = format!("{value:.2e}");
            // 1.00e-5 is 1e-5.
            let (digits, exponent) = text.split_once('e').expect("written with an exponent");
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        4.. => thousands(value),
        _ => {
            let text = format!("{value:.*}", (3 - magnitude).clamp(0, 6) as usize);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    }
}

/// A whole number with commas: `12,345`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// Bytes in a unit that reads well: `1.2 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Seconds as people say them: `45s`, `3m20s`, `2h05m`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.23456, "1.235"),
            (0.25, "0.25"),
            (12.0, "12"),
            (120.0, "120"),
            (0.0123456, "0.01235"),
            (0.001, "0.001"),
            (1e-5, "1e-5"),
            (9.8e-5, "9.8e-5"),
            (-3.5, "-3.5"),
            (12345.6, "12,346"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(
            (thousands(1_234_567.0), thousands(-1000.0), thousands(999.0)),
            ("1,234,567".into(), "-1,000".into(), "999".into())
        );
        assert_eq!(
            (size(999), size(1_200_000), size(5_000_000_000)),
            ("999 bytes".into(), "1.2 MB".into(), "5.0 GB".into())
        );
        assert_eq!((duration(45.2), duration(200.0), duration(7500.0)), ("45s".into(), "3m20s".into(), "2h05m".into()));
    }

    #[test]
    fn lines_say_how_it_goes() {
        let metrics: Metrics = [
            (metrics::LOSS, 1.23456),
            (metrics::REWARD, 0.5),
            (metrics::LEARNING_RATE, 9.8e-4),
            (metrics::TOKENS_PER_SECOND, 12345.6),
        ]
        .into_iter()
        .collect();
        insta::assert_snapshot!(step_line(20, 1000, &metrics, 80.0), @"step   20/1000  loss 1.235  reward 0.5  lr 9.8e-4  12,346 tokens/s  1m20s left");
        let evaluated =
            TrainEvent::Evaluated { step: 20, metrics: [(metrics::EVAL_LOSS, 0.125)].into_iter().collect() };
        assert_eq!(event_line(&evaluated).unwrap(), "evaluated after step 20: eval_loss 0.125");
        let saved = TrainEvent::CheckpointSaved { step: 20, bytes: 1_234_000 };
        assert_eq!(event_line(&saved).unwrap(), "checkpoint of step 20 (1.2 MB)");
    }

    #[test]
    fn the_bar_takes_its_template() {
        let _ = style();
    }
}
