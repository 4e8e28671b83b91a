//! `MathAPI`: arithmetic on whatever arguments a call brings. It has no state.

use super::{ApiClass, BfclContext};
use crate::python::call::{Default, Parameter, Signature, method, optional, required};
use crate::python::{self, Dict, Exception, ExceptionKind, PythonVersion, Value, decimal, mpf, number, ops, text};

const PAIR: &[Parameter] = &[required("a"), required("b")];
const NUMBERS: &[Parameter] = &[required("numbers")];
const CONVERSION: &[Parameter] = &[required("value"), required("unit_in"), required("unit_out")];

const SIGNATURES: &[Signature] = &[
    method("logarithm", &[required("value"), required("base"), required("precision")]),
    method("mean", NUMBERS),
    method("standard_deviation", NUMBERS),
    method("si_unit_conversion", CONVERSION),
    method("imperial_si_conversion", CONVERSION),
    method("add", PAIR),
    method("subtract", PAIR),
    method("multiply", PAIR),
    method("divide", PAIR),
    method("power", &[required("base"), required("exponent")]),
    method("square_root", &[required("number"), required("precision")]),
    method("absolute_value", &[required("number")]),
    method("round_number", &[required("number"), optional("decimal_places", Default::Int(0))]),
    method("percentage", &[required("part"), required("whole")]),
    method("min_value", NUMBERS),
    method("max_value", NUMBERS),
    method("sum_values", NUMBERS),
];

const NOT_NUMBERS: &str = "Both inputs must be numbers";
const NOT_ALL_NUMBERS: &str = "All elements in the list must be numbers";
const TOO_LARGE: &str = "Conversion resulted in a value too large to represent";

/// The math tool. Stateless: precisions are set by each call that uses them.
#[derive(Clone, Debug)]
pub struct MathApi {
    python: PythonVersion,
}

impl MathApi {
    /// A fresh instance; there is no scenario to load.
    pub fn create(_scenario: &Dict, context: &BfclContext) -> python::Result<Box<dyn ApiClass>> {
        Ok(Box::new(Self { python: context.python }))
    }

    fn mean(&self, numbers: &Value) -> python::Result<Value> {
        let total = number::sum(&ops::iterate(numbers)?, self.python)?;
        ops::truediv(&total, &Value::int(ops::len(numbers)?))
    }

    fn standard_deviation(&self, numbers: &Value) -> python::Result<Value> {
        let mean = self.mean(numbers)?;
        let squares =
            ops::iterate(numbers)?.into_iter().map(|number| number::power(&ops::sub(&number, &mean)?, &Value::int(2)));
        let variance = ops::truediv(&number::try_sum(squares, self.python)?, &Value::int(ops::len(numbers)?))?;
        // Squares are not negative and the root of what is not a number is not a number: nothing can fail.
        Ok(Value::Float(number::float(&variance)?.sqrt()))
    }
}

/// `{"result": …}`, or `{"error": message}` for an exception of the kind that the original catches.
fn caught(outcome: python::Result<Value>, kind: ExceptionKind, message: &str) -> python::Result<Value> {
    match outcome {
        Ok(value) => Ok(Value::dict([("result", value)])),
        Err(exception) if exception.kind == kind => Ok(Value::error(message)),
        Err(exception) => Err(exception),
    }
}

/// What a function over `numbers` answers.
fn over_numbers(
    numbers: &Value,
    when_empty: &str,
    compute: impl FnOnce(&Value) -> python::Result<Value>,
) -> python::Result<Value> {
    if !numbers.truthy() {
        return Ok(Value::error(when_empty));
    }
    caught(compute(numbers), ExceptionKind::Type, NOT_ALL_NUMBERS)
}

/// Metres per unit.
fn metres(unit: &Value) -> python::Result<Option<Value>> {
    unit.check_hashable()?;
    Ok(match unit.as_str() {
        Some("km") => Some(Value::int(1000)),
        Some("m") => Some(Value::int(1)),
        Some("cm") => Some(Value::Float(0.01)),
        Some("mm") => Some(Value::Float(0.001)),
        Some("um") => Some(Value::Float(1e-6)),
        Some("nm") => Some(Value::Float(1e-9)),
        _ => None,
    })
}

fn unsupported_conversion(unit_in: &Value, unit_out: &Value) -> python::Result<Value> {
    let (unit_in, unit_out) = (text::try_str(unit_in)?, text::try_str(unit_out)?);
    Ok(Value::error(format!("Conversion from '{unit_in}' to '{unit_out}' is not supported")))
}

fn si_unit_conversion(value: &Value, unit_in: &Value, unit_out: &Value) -> python::Result<Value> {
    if !value.is_number() {
        return Ok(Value::error("Value must be a number"));
    }
    // An unknown first unit is answered before the second is looked at.
    let Some(metres_in) = metres(unit_in)? else {
        return unsupported_conversion(unit_in, unit_out);
    };
    let Some(metres_out) = metres(unit_out)? else {
        return unsupported_conversion(unit_in, unit_out);
    };
    let converted = || {
        let per_metre = ops::truediv(&Value::int(1), &metres_out)?;
        ops::mul(&ops::mul(value, &metres_in)?, &per_metre)
    };
    caught(converted(), ExceptionKind::Overflow, TOO_LARGE)
}

fn imperial_si_conversion(value: &Value, unit_in: &Value, unit_out: &Value) -> python::Result<Value> {
    if !value.is_number() {
        return Ok(Value::error("Value must be a number"));
    }
    if unit_in == unit_out {
        return Ok(Value::dict([("result", value.clone())]));
    }
    let factor = match format!("{}_to_{}", text::try_str(unit_in)?, text::try_str(unit_out)?).as_str() {
        "cm_to_in" => 0.393_701,
        "in_to_cm" => 2.54,
        "m_to_ft" => 3.280_84,
        "ft_to_m" => 0.304_8,
        "m_to_yd" => 1.093_61,
        "yd_to_m" => 0.914_4,
        "km_to_miles" => 0.621_371,
        "miles_to_km" => 1.609_34,
        "kg_to_lb" => 2.204_62,
        "lb_to_kg" => 0.453_592,
        "celsius_to_fahrenheit" => 1.8,
        "fahrenheit_to_celsius" => 5.0 / 9.0,
        _ => return unsupported_conversion(unit_in, unit_out),
    };
    let factor = Value::Float(factor);
    let converted = || match (unit_in.as_str(), unit_out.as_str()) {
        (Some("celsius"), Some("fahrenheit")) => ops::add(&ops::mul(value, &factor)?, &Value::int(32)),
        (Some("fahrenheit"), Some("celsius")) => ops::mul(&ops::sub(value, &Value::int(32))?, &factor),
        _ => ops::mul(value, &factor),
    };
    caught(converted(), ExceptionKind::Overflow, TOO_LARGE)
}

fn multiply(a: &Value, b: &Value) -> python::Result<Value> {
    if !a.is_number() || !b.is_number() {
        return Ok(Value::error(NOT_NUMBERS));
    }
    caught(ops::mul(a, b), ExceptionKind::Type, NOT_NUMBERS)
}

/// `a / b`, or `zero_message` where `b` equals 0.
fn divide(
    a: &Value,
    b: &Value,
    zero_message: &str,
    finish: impl FnOnce(Value) -> python::Result<Value>,
) -> python::Result<Value> {
    if *b == Value::int(0) {
        return Ok(Value::error(zero_message));
    }
    caught(ops::truediv(a, b).and_then(finish), ExceptionKind::Type, NOT_NUMBERS)
}

fn square_root(radicand: &Value, precision: &Value) -> python::Result<Value> {
    let root = || {
        if ops::lt(radicand, &Value::int(0))? {
            return Ok(Value::error("Cannot calculate square root of a negative number"));
        }
        Ok(Value::dict([("result", decimal::square_root(radicand, precision)?)]))
    };
    match root() {
        Err(Exception { kind: ExceptionKind::Type | ExceptionKind::InvalidOperation, .. }) => {
            Ok(Value::error("Input must be a number or computation resulted in an invalid operation"))
        }
        outcome => outcome,
    }
}

impl ApiClass for MathApi {
    fn class_name(&self) -> &'static str {
        "MathAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> python::Result<Value> {
        match (method, arguments) {
            ("logarithm", [value, base, precision]) => match mpf::logarithm(value, base, precision) {
                Ok(result) => Ok(Value::dict([("result", result)])),
                // The original catches every exception.
                Err(exception) => Ok(Value::error(exception.message)),
            },
            ("mean", [numbers]) => {
                over_numbers(numbers, "Cannot calculate mean of an empty list", |numbers| self.mean(numbers))
            }
            ("standard_deviation", [numbers]) => {
                over_numbers(numbers, "Cannot calculate standard deviation of an empty list", |numbers| {
                    self.standard_deviation(numbers)
                })
            }
            ("si_unit_conversion", [value, unit_in, unit_out]) => si_unit_conversion(value, unit_in, unit_out),
            ("imperial_si_conversion", [value, unit_in, unit_out]) => imperial_si_conversion(value, unit_in, unit_out),
            ("add", [a, b]) => caught(ops::add(a, b), ExceptionKind::Type, NOT_NUMBERS),
            ("subtract", [a, b]) => caught(ops::sub(a, b), ExceptionKind::Type, NOT_NUMBERS),
            ("multiply", [a, b]) => multiply(a, b),
            ("divide", [a, b]) => divide(a, b, "Cannot divide by zero", Ok),
            ("power", [base, exponent]) => caught(number::power(base, exponent), ExceptionKind::Type, NOT_NUMBERS),
            ("square_root", [number, precision]) => square_root(number, precision),
            ("absolute_value", [number]) => caught(number::abs(number), ExceptionKind::Type, "Input must be a number"),
            ("round_number", [number, decimal_places]) => caught(
                number::round(number, decimal_places),
                ExceptionKind::Type,
                "First input must be a number, second input must be an integer",
            ),
            ("percentage", [part, whole]) => {
                divide(part, whole, "Whole value cannot be zero", |quotient| ops::mul(&quotient, &Value::int(100)))
            }
            ("min_value", [numbers]) => {
                over_numbers(numbers, "Cannot find minimum of an empty list", |numbers| number::extremum(numbers, true))
            }
            ("max_value", [numbers]) => over_numbers(numbers, "Cannot find maximum of an empty list", |numbers| {
                number::extremum(numbers, false)
            }),
            ("sum_values", [numbers]) => over_numbers(numbers, "Cannot calculate sum of an empty list", |numbers| {
                number::sum(&ops::iterate(numbers)?, self.python)
            }),
            _ => unreachable!("{method} is not a method of MathAPI, or its arguments are not bound"),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(python: PythonVersion, method: &str, arguments: &[Value]) -> String {
        match (MathApi { python }).invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("raised {exception}"),
        }
    }

    #[test]
    fn answers_are_those_of_the_original() {
        let list = |numbers: &[f64]| Value::list(numbers.iter().copied().map(Value::Float));
        for (method, arguments, expected) in [
            ("logarithm", vec![100.0.into(), 10.0.into(), 5.into()], "{'result': mpf('2.0')}"),
            ("logarithm", vec![2.into(), 1.into(), 5.into()], r#"{"error": ""}"#),
            ("mean", vec![list(&[1.0, 2.0])], r#"{"result": 1.5}"#),
            ("mean", vec![Value::list([])], r#"{"error": "Cannot calculate mean of an empty list"}"#),
            ("mean", vec!["abc".into()], r#"{"error": "All elements in the list must be numbers"}"#),
            ("standard_deviation", vec![list(&[1e200, -1e200])], "raised (34, 'Numerical result out of range')"),
            ("si_unit_conversion", vec![2.into(), "km".into(), "cm".into()], r#"{"result": 200000.0}"#),
            ("si_unit_conversion", vec![2.into(), Value::list([]), "m".into()], "raised unhashable type: 'list'"),
            ("imperial_si_conversion", vec![50.into(), "fahrenheit".into(), "celsius".into()], r#"{"result": 10.0}"#),
            (
                "imperial_si_conversion",
                vec![1.into(), Value::None, "m".into()],
                r#"{"error": "Conversion from 'None' to 'm' is not supported"}"#,
            ),
            ("add", vec!["a".into(), "b".into()], r#"{"result": "ab"}"#),
            ("multiply", vec!["a".into(), 3.into()], r#"{"error": "Both inputs must be numbers"}"#),
            ("divide", vec![1.into(), false.into()], r#"{"error": "Cannot divide by zero"}"#),
            ("power", vec![2.into(), (-1).into()], r#"{"result": 0.5}"#),
            ("power", vec![0.into(), (-1).into()], "raised 0.0 cannot be raised to a negative power"),
            ("power", vec![(-8).into(), 0.5.into()], "{'result': (1.7319121124709868e-16+2.8284271247461903j)}"),
            ("square_root", vec![2.into(), 5.into()], "{'result': Decimal('1.4142')}"),
            (
                "square_root",
                vec!["4".into(), 5.into()],
                r#"{"error": "Input must be a number or computation resulted in an invalid operation"}"#,
            ),
            ("round_number", vec![2.675.into(), 2.into()], r#"{"result": 2.67}"#),
            ("percentage", vec![1.into(), 8.into()], r#"{"result": 12.5}"#),
            ("max_value", vec!["abc".into()], r#"{"result": "c"}"#),
            (
                "power",
                vec![10.into(), 4300.into()],
                "Error during execution: Exceeds the limit (4300 digits) for integer string conversion; use \
                 sys.set_int_max_str_digits() to increase the limit",
            ),
        ] {
            assert_eq!(answer(PythonVersion::V3_12, method, &arguments), expected, "{method}{arguments:?}");
        }
    }

    #[test]
    fn sums_of_floats_follow_the_python_version() {
        let numbers = [Value::list([100, 95, 85, 90, 88, 92].map(Value::int))];
        let deviation = |python| answer(python, "standard_deviation", &numbers);
        assert_eq!(deviation(PythonVersion::V3_11), r#"{"result": 4.85340659285368}"#);
        assert_eq!(deviation(PythonVersion::V3_12), r#"{"result": 4.853406592853679}"#);
    }
}
