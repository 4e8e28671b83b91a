//! Metrics of a run for other programs: CSV, and event files that TensorBoard reads.
//!
//! TensorBoard's file is a row of TFRecords (length, checksum, data, checksum), each a protobuf message `tensorflow.Event`; the few
//! fields needed are written here by hand. The crates that do it (tensorboard-rs, tboard) have not been kept for years, and bring
//! protobuf compilers of their time with them.

use indexmap::{IndexMap, IndexSet};

use super::event::{LoggedEvent, TrainEvent};

/// One row for each update that has metrics: its number, its time (seconds since 1970) and what was measured, evaluation included.
struct Row<'a> {
    step: u64,
    time: f64,
    values: IndexMap<&'a str, f64>,
}

fn rows(events: &[LoggedEvent]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for logged in events {
        let (TrainEvent::Step { step, metrics } | TrainEvent::Evaluated { step, metrics }) = &logged.event else {
            continue;
        };
        match rows.last_mut().filter(|row| row.step == *step) {
            Some(row) => row.values.extend(metrics.iter()),
            None => rows.push(Row { step: *step, time: logged.time, values: metrics.iter().collect() }),
        }
    }
    rows
}

/// A table with one line for each update and one column for each metric, empty where it was not measured.
pub fn to_csv(events: &[LoggedEvent]) -> String {
    let rows = rows(events);
    let names: IndexSet<&str> = rows.iter().flat_map(|row| row.values.keys().copied()).collect();
    let mut text = String::from("step,time");
    for name in &names {
        text.push(',');
        text.push_str(&csv_field(name));
    }
    text.push('\n');
    for row in &rows {
        text.push_str(&format!("{},{}", row.step, row.time));
        for name in &names {
            text.push(',');
            if let Some(value) = row.values.get(name) {
                text.push_str(&value.to_string());
            }
        }
        text.push('\n');
    }
    text
}

/// RFC 4180: quoted where it has to be. Names of rewards are the user's.
fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The content of a file `events.out.tfevents.…`: every metric as a scalar, under its name.
pub fn to_tensorboard(events: &[LoggedEvent]) -> Vec<u8> {
    let mut file = Vec::new();
    let started = events.first().map_or(0.0, |logged| logged.time);
    // Event: 1 wall_time (double), 2 step (int64), 3 file_version (string), 5 summary (message).
    let mut version = Vec::new();
    put_double(&mut version, 1, started);
    put_bytes(&mut version, 3, b"brain.Event:2");
    put_record(&mut file, &version);
    for row in rows(events) {
        // Summary: 1 value (repeated message); Value: 1 tag (string), 2 simple_value (float).
        let mut summary = Vec::new();
        for (name, value) in &row.values {
            let mut scalar = Vec::new();
            put_bytes(&mut scalar, 1, name.as_bytes());
            put_float(&mut scalar, 2, *value as f32);
            put_bytes(&mut summary, 1, &scalar);
        }
        let mut event = Vec::new();
        put_double(&mut event, 1, row.time);
        put_tag(&mut event, 2, VARINT);
        put_varint(&mut event, row.step);
        put_bytes(&mut event, 5, &summary);
        put_record(&mut file, &event);
    }
    file
}

/// A name for such a file: TensorBoard takes every file with `tfevents` in its name.
pub fn tensorboard_file_name(events: &[LoggedEvent]) -> String {
    format!("events.out.tfevents.{:010}.parl", events.first().map_or(0.0, |logged| logged.time) as u64)
}

/// Protobuf's wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_tag(out, field, FIXED64);
    out.extend(value.to_le_bytes());
}

fn put_float(out: &mut Vec<u8>, field: u64, value: f32) {
    put_tag(out, field, FIXED32);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_tag(out, field, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// A TFRecord.
fn put_record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc32c(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc32c(data).to_le_bytes());
}

/// A checksum of data that may hold checksums itself, so it is turned and shifted.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a run's metrics are a few hundred kilobytes.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let polynomial = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc = crc >> 1 ^ polynomial;
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::event::FinishReason;

    fn events() -> Vec<LoggedEvent> {
        let step = |step, loss| TrainEvent::Step { step, metrics: [("loss", loss)].into_iter().collect() };
        let evaluated = [("eval_loss", 2.5), ("rewards/a,\"b\"/mean", 0.125)].into_iter().collect();
        let events = [
            TrainEvent::Resumed { step: 0 },
            step(1, 3.0),
            TrainEvent::Evaluated { step: 1, metrics: evaluated },
            TrainEvent::Warning { step: 2, message: "no".to_owned() },
            step(2, f64::NAN),
            step(300, 0.1),
            TrainEvent::Finished { step: 300, reason: FinishReason::MaxSteps },
        ];
        let timed = |(index, event)| LoggedEvent { time: 1_700_000_000.0 + index as f64 / 4.0, event };
        events.into_iter().enumerate().map(timed).collect()
    }

    #[test]
    fn csv_has_a_line_for_each_update() {
        insta::assert_snapshot!(to_csv(&events()), @r#"
        step,time,loss,eval_loss,"rewards/a,""b""/mean"
        1,1700000000.25,3,2.5,0.125
        2,1700000001,NaN,,
        300,1700000001.25,0.1,,
        "#);
        assert_eq!(to_csv(&[]), "step,time\n");
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn numbers_are_written_as_protobuf_wants_them() {
        let mut out = Vec::new();
        put_varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
        out.clear();
        put_bytes(&mut out, 3, b"ab");
        assert_eq!(out, [0x1a, 2, b'a', b'b']);
    }

    #[test]
    fn tensorboard_files_are_rows_of_checked_records() {
        let file = to_tensorboard(&events());
        let mut rest = file.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
            assert_eq!(rest[8..12], masked_crc32c(&rest[..8]).to_le_bytes());
            let (data, after) = rest[12..].split_at(length as usize);
            assert_eq!(after[..4], masked_crc32c(data).to_le_bytes());
            records.push(data.to_vec());
            rest = &after[4..];
        }
        assert_eq!(records.len(), 1 + 3);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert!(records[3].windows(3).any(|bytes| bytes == [0x10, 0xac, 0x02]), "step 300 as field 2");
        assert!(records[1].windows(9).any(|bytes| bytes == b"eval_loss"));
        assert_eq!(tensorboard_file_name(&events()), "events.out.tfevents.1700000000.parl");
    }
}
