//! A car: engine, doors, climate, lights, brakes, cruise control, navigation and tires.

use std::sync::Arc;

use super::{ApiClass, BfclContext, LongContext};
use crate::python::call::{method, optional, required};
use crate::python::number::float;
use crate::python::{self, Default, Dict, Random, Signature, Value, ops};

const SEED: i64 = 141_053;
const MAX_FUEL_GALLONS: i64 = 50;
const MIN_FUEL_GALLONS: f64 = 0.0;
const MILES_PER_GALLON: f64 = 20.0;
const GALLONS_PER_LITER: f64 = 0.264172;
const LITERS_PER_GALLON: f64 = 3.78541;
const FULL_BRAKE_FORCE_NEWTONS: i64 = 1000;

/// The cities with a zip code of their own; every other name answers [`UNKNOWN_ZIPCODE`].
const ZIPCODES: [(&str, &str); 11] = [
    ("Rivermist", "83214"),
    ("Stonebrook", "74532"),
    ("Maplecrest", "56108"),
    ("Silverpine", "62947"),
    ("Shadowridge", "71354"),
    ("Sunset Valley", "83462"),
    ("Oakendale", "47329"),
    ("Willowbend", "52013"),
    ("Crescent Hollow", "69238"),
    ("Autumnville", "51479"),
    ("San Francisco", "94016"),
];

const UNKNOWN_ZIPCODE: &str = "00000";

/// Distances between zip codes, in kilometers; the same both ways.
const DISTANCES: [(&str, &str, f64); 12] = [
    ("83214", "74532", 750.0),
    ("56108", "62947", 320.0),
    ("71354", "83462", 450.0),
    ("47329", "52013", 290.0),
    ("69238", "51479", 630.0),
    ("94016", "83214", 980.0),
    ("94016", "94704", 600.0),
    ("94704", "08540", 2550.0),
    ("94016", "08540", 1950.0),
    ("62947", "47329", 1053.0),
    ("94016", "62947", 780.0),
    ("74532", "94016", 880.0),
];

static SIGNATURES: [Signature; 22] = [
    method("startEngine", &[required("ignitionMode")]),
    method("fillFuelTank", &[required("fuelAmount")]),
    method("lockDoors", &[required("unlock"), required("door")]),
    method(
        "adjustClimateControl",
        &[
            required("temperature"),
            optional("unit", Default::Str("celsius")),
            optional("fanSpeed", Default::Int(50)),
            optional("mode", Default::Str("auto")),
        ],
    ),
    method("get_outside_temperature_from_google", &[]),
    method("get_outside_temperature_from_weather_com", &[]),
    method("setHeadlights", &[required("mode")]),
    method("displayCarStatus", &[required("option")]),
    method("activateParkingBrake", &[required("mode")]),
    method("pressBrakePedal", &[required("pedalPosition")]),
    method("releaseBrakePedal", &[]),
    method("setCruiseControl", &[required("speed"), required("activate"), required("distanceToNextVehicle")]),
    method("get_current_speed", &[]),
    method("display_log", &[required("messages")]),
    method("estimate_drive_feasibility_by_mileage", &[required("distance")]),
    method("liter_to_gallon", &[required("liter")]),
    method("gallon_to_liter", &[required("gallon")]),
    method("estimate_distance", &[required("cityA"), required("cityB")]),
    method("get_zipcode_based_on_city", &[required("city")]),
    method("set_navigation", &[required("destination")]),
    method("check_tire_pressure", &[]),
    method("find_nearest_tire_shop", &[]),
];

/// The car of BFCL's `VehicleControlAPI`.
#[derive(Clone, Debug)]
pub struct VehicleControlApi {
    long_context: Option<Arc<LongContext>>,
    random: Random,
    fuel_level: Value,
    battery_voltage: Value,
    engine_state: Value,
    /// Counted from `door_status` when the scenario loads; what the scenario says about it is ignored.
    remaining_unlocked_doors: i64,
    door_status: Value,
    ac_temperature: Value,
    fan_speed: Value,
    ac_mode: Value,
    humidity_level: Value,
    head_light_status: Value,
    parking_brake_status: Value,
    /// Not compared by the checker.
    parking_brake_force: Value,
    /// Not compared by the checker.
    slope_angle: Value,
    brake_pedal_status: Value,
    /// Not compared by the checker. An `int` when the pedal position was one.
    brake_pedal_force: Value,
    distance_to_next_vehicle: Value,
    cruise_status: Value,
    destination: Value,
    front_left_tire_pressure: Value,
    front_right_tire_pressure: Value,
    rear_left_tire_pressure: Value,
    rear_right_tire_pressure: Value,
}

impl VehicleControlApi {
    /// Loads a scenario. What it leaves out has the class's default.
    pub fn from_scenario(scenario: &Dict, context: &BfclContext) -> python::Result<Self> {
        let attribute = |name: &str, default: Value| scenario.get(name).cloned().unwrap_or(default);
        let number = |name: &str, default: f64| attribute(name, Value::Float(default));
        let text = |name: &str, default: &str| attribute(name, Value::str(default));

        let random = Random::from_value(&attribute("random_seed", Value::int(SEED)))?;
        let all_unlocked =
            Value::dict(["driver", "passenger", "rear_left", "rear_right"].map(|door| (door, Value::str("unlocked"))));
        let door_status = attribute("doorStatus", all_unlocked);
        let locked =
            ops::dict_for(&door_status, "keys")?.values().filter(|status| status.as_str() == Some("locked")).count();
        Ok(Self {
            long_context: context.long_context.clone(),
            random,
            fuel_level: number("fuelLevel", 0.0),
            battery_voltage: number("batteryVoltage", 12.6),
            engine_state: text("engineState", "stopped"),
            remaining_unlocked_doors: 4 - locked as i64,
            door_status,
            ac_temperature: number("acTemperature", 25.0),
            fan_speed: attribute("fanSpeed", Value::int(50)),
            ac_mode: text("acMode", "auto"),
            humidity_level: number("humidityLevel", 50.0),
            head_light_status: text("headLightStatus", "off"),
            parking_brake_status: text("parkingBrakeStatus", "released"),
            parking_brake_force: number("parkingBrakeForce", 0.0),
            slope_angle: number("slopeAngle", 0.0),
            brake_pedal_status: text("brakePedalStatus", "released"),
            brake_pedal_force: number("brakePedalForce", 0.0),
            distance_to_next_vehicle: number("distanceToNextVehicle", 50.0),
            cruise_status: text("cruiseStatus", "inactive"),
            destination: text("destination", "None"),
            front_left_tire_pressure: number("frontLeftTirePressure", 32.0),
            front_right_tire_pressure: number("frontRightTirePressure", 32.0),
            rear_left_tire_pressure: number("rearLeftTirePressure", 30.0),
            rear_right_tire_pressure: number("rearRightTirePressure", 30.0),
        })
    }

    /// A constant of the long_context category, `None` in the other categories.
    fn long_constant(&self, name: &str) -> Option<&Value> {
        self.long_context.as_deref().map(|constants| constants.constant(name))
    }

    fn start_engine(&mut self, ignition_mode: &Value) -> python::Result<Value> {
        let ignition_mode = ignition_mode.as_str();
        if ignition_mode == Some("STOP") {
            // The engine stops here; the answer is an error all the same, because STOP is refused below.
            self.engine_state = Value::str("stopped");
        }
        if self.remaining_unlocked_doors > 0 {
            let mut unlocked = Vec::new();
            for (door, status) in ops::dict_for(&self.door_status, "items")?.iter() {
                if status.as_str() == Some("unlocked") {
                    unlocked.push(python::text::str(door));
                }
            }
            return Ok(Value::error(format!(
                "All doors must be locked before starting the engine. Here are the unlocked doors: {}",
                unlocked.join(", ")
            )));
        }
        if self.brake_pedal_status.as_str() != Some("pressed") {
            return Ok(Value::error("Brake pedal needs to be pressed when starting the engine."));
        }
        if self.brake_pedal_force != Value::int(FULL_BRAKE_FORCE_NEWTONS) {
            return Ok(Value::error("Must press the brake fully before starting the engine."));
        }
        if ops::lt(&self.fuel_level, &Value::Float(MIN_FUEL_GALLONS))? {
            return Ok(Value::error("Fuel tank is empty."));
        }
        if ignition_mode != Some("START") {
            return Ok(Value::error("Invalid ignition mode."));
        }
        self.engine_state = Value::str("running");
        Ok(Value::dict([
            ("engineState", self.engine_state.clone()),
            ("fuelLevel", self.fuel_level.clone()),
            ("batteryVoltage", self.battery_voltage.clone()),
        ]))
    }

    fn fill_fuel_tank(&mut self, fuel_amount: &Value) -> python::Result<Value> {
        if ops::lt(fuel_amount, &Value::int(0))? {
            return Ok(Value::error("Fuel amount cannot be negative."));
        }
        let filled = ops::add(&self.fuel_level, fuel_amount)?;
        if ops::gt(&filled, &Value::int(MAX_FUEL_GALLONS))? {
            return Ok(Value::error("Cannot fill gas above the tank capacity."));
        }
        if ops::lt(&filled, &Value::Float(MIN_FUEL_GALLONS))? {
            return Ok(Value::error("Fuel tank is empty. Min fuel level is 0 gallons."));
        }
        self.fuel_level = filled;
        Ok(Value::dict([("fuelLevel", self.fuel_level.clone())]))
    }

    fn lock_doors(&mut self, unlock: &Value, door: &Value) -> python::Result<Value> {
        let (status, change) = if unlock.truthy() { ("unlocked", 1) } else { ("locked", -1) };
        // Doors before an unknown one have moved when its KeyError is raised.
        for door in ops::iterate(door)? {
            if ops::get_item(&self.door_status, &door)?.as_str() != Some(status) {
                ops::set_item(&mut self.door_status, door, Value::str(status))?;
                self.remaining_unlocked_doors += change;
            }
        }
        Ok(Value::dict([
            ("lockStatus", Value::str(status)),
            ("remainingUnlockedDoors", Value::int(self.remaining_unlocked_doors)),
        ]))
    }

    fn adjust_climate_control(
        &mut self,
        temperature: &Value,
        unit: &Value,
        fan_speed: &Value,
        mode: &Value,
    ) -> python::Result<Value> {
        if !(ops::le(&Value::int(0), fan_speed)? && ops::le(fan_speed, &Value::int(100))?) {
            return Ok(Value::error("Fan speed must be between 0 and 100."));
        }
        // Stored before the conversion, which may raise.
        self.ac_temperature = temperature.clone();
        if unit.as_str() == Some("fahrenheit") {
            let above_freezing = ops::sub(temperature, &Value::int(32))?;
            self.ac_temperature = ops::truediv(&ops::mul(&above_freezing, &Value::int(5))?, &Value::int(9))?;
        }
        self.fan_speed = fan_speed.clone();
        self.ac_mode = mode.clone();
        Ok(Value::dict([
            // As given, not converted.
            ("currentACTemperature", temperature.clone()),
            ("climateMode", mode.clone()),
            ("humidityLevel", self.humidity_level.clone()),
        ]))
    }

    fn outside_temperature(&mut self) -> Value {
        let temperature = Value::Float(self.random.uniform(-10.0, 40.0));
        let mut weather =
            self.long_constant("LONG_WEATHER_EXTENSION").and_then(Value::as_dict).cloned().unwrap_or_default();
        weather.set("outsideTemperature", temperature);
        Value::Dict(Arc::new(weather))
    }

    fn set_headlights(&mut self, mode: &Value) -> Value {
        let status = match mode.as_str() {
            Some("on") => "on",
            Some("off" | "auto") => "off",
            _ => return Value::error("Invalid headlight mode."),
        };
        self.head_light_status = Value::str(status);
        Value::dict([("headlightStatus", Value::str(status))])
    }

    fn display_car_status(&self, option: &Value) -> Value {
        let metadata = self.long_constant("CAR_STATUS_METADATA_EXTENSION").map(|text| ("metadata", text.clone()));
        let shown = match option.as_str() {
            Some("fuel") => vec![("fuelLevel", &self.fuel_level)],
            Some("battery") => vec![("batteryVoltage", &self.battery_voltage)],
            Some("doors") => vec![("doorStatus", &self.door_status)],
            Some("climate") => vec![
                ("currentACTemperature", &self.ac_temperature),
                ("fanSpeed", &self.fan_speed),
                ("climateMode", &self.ac_mode),
                ("humidityLevel", &self.humidity_level),
            ],
            Some("headlights") => vec![("headlightStatus", &self.head_light_status)],
            Some("parkingBrake") => vec![
                ("parkingBrakeStatus", &self.parking_brake_status),
                ("parkingBrakeForce", &self.parking_brake_force),
                ("slopeAngle", &self.slope_angle),
            ],
            Some("brakePedal") => {
                vec![("brakePedalStatus", &self.brake_pedal_status), ("brakePedalForce", &self.brake_pedal_force)]
            }
            Some("engine") => vec![("engineState", &self.engine_state)],
            _ => return Value::dict(metadata.into_iter().chain([("error", Value::str("Invalid option"))])),
        };
        Value::dict(metadata.into_iter().chain(shown.into_iter().map(|(name, value)| (name, value.clone()))))
    }

    fn activate_parking_brake(&mut self, mode: &Value) -> Value {
        let (status, force) = match mode.as_str() {
            Some("engage") => ("engaged", 500.0),
            Some("release") => ("released", 0.0),
            _ => return Value::error("Invalid mode"),
        };
        self.parking_brake_status = Value::str(status);
        self.parking_brake_force = Value::Float(force);
        self.slope_angle = Value::Float(10.0);
        let instruction =
            self.long_constant("PARKING_BRAKE_INSTRUCTION").map(|text| ("parkingBrakeInstruction", text.clone()));
        Value::dict(instruction.into_iter().chain([
            ("parkingBrakeStatus", self.parking_brake_status.clone()),
            ("_parkingBrakeForce", self.parking_brake_force.clone()),
            ("_slopeAngle", self.slope_angle.clone()),
        ]))
    }

    fn press_brake_pedal(&mut self, pedal_position: &Value) -> python::Result<Value> {
        let zero = Value::int(0);
        if !(ops::le(&zero, pedal_position)? && ops::le(pedal_position, &Value::int(1))?) {
            return Ok(Value::error("Pedal position must be between 0 and 1."));
        }
        if *pedal_position == zero {
            return Ok(self.release_brake_pedal());
        }
        let force = ops::mul(pedal_position, &Value::int(FULL_BRAKE_FORCE_NEWTONS))?;
        self.brake_pedal_status = Value::str("pressed");
        self.brake_pedal_force = force.clone();
        Ok(Value::dict([("brakePedalStatus", Value::str("pressed")), ("brakePedalForce", float(&force)?.into())]))
    }

    fn release_brake_pedal(&mut self) -> Value {
        self.brake_pedal_status = Value::str("released");
        self.brake_pedal_force = Value::Float(0.0);
        Value::dict([
            ("brakePedalStatus", self.brake_pedal_status.clone()),
            ("brakePedalForce", self.brake_pedal_force.clone()),
        ])
    }

    fn set_cruise_control(&mut self, speed: &Value, activate: &Value, distance: &Value) -> python::Result<Value> {
        let distance = float(distance)?;
        let speed = float(speed)?;
        if self.engine_state.as_str() == Some("stopped") {
            return Ok(Value::error("Start the engine before activating the cruise control."));
        }
        // Stored before the speed is checked.
        self.distance_to_next_vehicle = Value::Float(distance);
        let status = if activate.truthy() {
            // Rust's remainder is zero exactly where Python's is; both refuse NaN.
            if !((0.0..=120.0).contains(&speed) && speed % 5.0 == 0.0) {
                return Ok(Value::error("Invalid speed"));
            }
            "active"
        } else {
            "inactive"
        };
        self.cruise_status = Value::str(status);
        Ok(Value::dict([
            ("cruiseStatus", Value::str(status)),
            ("currentSpeed", Value::Float(speed)),
            ("distanceToNextVehicle", Value::Float(distance)),
        ]))
    }

    fn estimate_drive_feasibility(&self, distance_miles: &Value) -> python::Result<Value> {
        let range_miles = ops::mul(&self.fuel_level, &Value::Float(MILES_PER_GALLON))?;
        let too_far = ops::lt(&range_miles, distance_miles)?;
        Ok(Value::dict([("canDrive", Value::Bool(!too_far))]))
    }

    fn estimate_distance(&self, city_a: &Value, city_b: &Value) -> Value {
        let (a, b) = (city_a.as_str(), city_b.as_str());
        let known = DISTANCES.iter().find(|(from, to, _)| {
            let (from, to) = (Some(*from), Some(*to));
            (a, b) == (from, to) || (a, b) == (to, from)
        });
        let answer = match known {
            Some((_, _, kilometers)) => ("distance", Value::Float(*kilometers)),
            None => ("error", Value::str("distance not found in database.")),
        };
        let cities = self.long_constant("INTERMEDIARY_CITIES").map(|cities| ("intermediaryCities", cities.clone()));
        Value::dict([answer].into_iter().chain(cities))
    }

    fn set_navigation(&mut self, destination: &Value) -> python::Result<Value> {
        // Stored before the concatenation, which may raise.
        self.destination = destination.clone();
        let status = ops::add(&Value::str("Navigating to "), destination)?;
        Ok(Value::dict([("status", status)]))
    }

    fn check_tire_pressure(&self) -> python::Result<Value> {
        let tires = [
            ("frontLeftTirePressure", &self.front_left_tire_pressure),
            ("frontRightTirePressure", &self.front_right_tire_pressure),
            ("rearLeftTirePressure", &self.rear_left_tire_pressure),
            ("rearRightTirePressure", &self.rear_right_tire_pressure),
        ];
        let mut sum = tires[0].1.clone();
        for (_, pressure) in &tires[1..] {
            sum = ops::add(&sum, pressure)?;
        }
        let mean = ops::truediv(&sum, &Value::int(4))?;
        let healthy = ops::le(&Value::int(30), &mean)? && ops::le(&mean, &Value::int(35))?;
        let car_info =
            self.long_constant("CAR_STATUS_METADATA_EXTENSION").cloned().unwrap_or_else(|| Value::dict::<&str>([]));
        Ok(Value::dict(
            tires
                .map(|(name, pressure)| (name, pressure.clone()))
                .into_iter()
                .chain([("healthy_tire_pressure", Value::Bool(healthy)), ("car_info", car_info)]),
        ))
    }
}

fn zipcode(city: &Value) -> Value {
    let known = ZIPCODES.iter().find(|(name, _)| city.as_str() == Some(name));
    Value::dict([("zipcode", Value::str(known.map_or(UNKNOWN_ZIPCODE, |(_, zipcode)| zipcode)))])
}

/// Makes an instance from a scenario, as the original's `_load_scenario` does.
pub fn create(scenario: &Dict, context: &BfclContext) -> python::Result<Box<dyn ApiClass>> {
    Ok(Box::new(VehicleControlApi::from_scenario(scenario, context)?))
}

impl ApiClass for VehicleControlApi {
    fn class_name(&self) -> &'static str {
        "VehicleControlAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        &SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> python::Result<Value> {
        match (method, arguments) {
            ("startEngine", [ignition_mode]) => self.start_engine(ignition_mode),
            ("fillFuelTank", [fuel_amount]) => self.fill_fuel_tank(fuel_amount),
            ("lockDoors", [unlock, door]) => self.lock_doors(unlock, door),
            ("adjustClimateControl", [temperature, unit, fan_speed, mode]) => {
                self.adjust_climate_control(temperature, unit, fan_speed, mode)
            }
            ("get_outside_temperature_from_google", []) => Ok(self.outside_temperature()),
            ("get_outside_temperature_from_weather_com", []) => Ok(Value::dict([("error", Value::int(404))])),
            ("setHeadlights", [mode]) => Ok(self.set_headlights(mode)),
            ("displayCarStatus", [option]) => Ok(self.display_car_status(option)),
            ("activateParkingBrake", [mode]) => Ok(self.activate_parking_brake(mode)),
            ("pressBrakePedal", [pedal_position]) => self.press_brake_pedal(pedal_position),
            ("releaseBrakePedal", []) => Ok(self.release_brake_pedal()),
            ("setCruiseControl", [speed, activate, distance]) => self.set_cruise_control(speed, activate, distance),
            ("get_current_speed", []) => {
                Ok(Value::dict([("currentSpeed", Value::Float(self.random.uniform(0.0, 120.0)))]))
            }
            ("display_log", [messages]) => Ok(Value::dict([("log", messages.clone())])),
            ("estimate_drive_feasibility_by_mileage", [distance]) => self.estimate_drive_feasibility(distance),
            ("liter_to_gallon", [liter]) => {
                Ok(Value::dict([("gallon", ops::mul(liter, &Value::Float(GALLONS_PER_LITER))?)]))
            }
            ("gallon_to_liter", [gallon]) => {
                Ok(Value::dict([("liter", ops::mul(gallon, &Value::Float(LITERS_PER_GALLON))?)]))
            }
            ("estimate_distance", [city_a, city_b]) => Ok(self.estimate_distance(city_a, city_b)),
            ("get_zipcode_based_on_city", [city]) => Ok(zipcode(city)),
            ("set_navigation", [destination]) => self.set_navigation(destination),
            ("check_tire_pressure", []) => self.check_tire_pressure(),
            ("find_nearest_tire_shop", []) => {
                Ok(Value::dict([("shopLocation", Value::str("456 Oakwood Avenue, Rivermist, 83214"))]))
            }
            _ => unreachable!("{method} with {} arguments is not among the signatures", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("fuelLevel", self.fuel_level.clone()),
            ("batteryVoltage", self.battery_voltage.clone()),
            ("engine_state", self.engine_state.clone()),
            ("remainingUnlockedDoors", Value::int(self.remaining_unlocked_doors)),
            ("doorStatus", self.door_status.clone()),
            ("acTemperature", self.ac_temperature.clone()),
            ("fanSpeed", self.fan_speed.clone()),
            ("acMode", self.ac_mode.clone()),
            ("humidityLevel", self.humidity_level.clone()),
            ("headLightStatus", self.head_light_status.clone()),
            ("parkingBrakeStatus", self.parking_brake_status.clone()),
            ("brakePedalStatus", self.brake_pedal_status.clone()),
            ("distanceToNextVehicle", self.distance_to_next_vehicle.clone()),
            ("cruiseStatus", self.cruise_status.clone()),
            ("destination", self.destination.clone()),
            ("frontLeftTirePressure", self.front_left_tire_pressure.clone()),
            ("frontRightTirePressure", self.front_right_tire_pressure.clone()),
            ("rearLeftTirePressure", self.rear_left_tire_pressure.clone()),
            ("rearRightTirePressure", self.rear_right_tire_pressure.clone()),
            ("long_context", Value::Bool(self.long_context.is_some())),
        ]
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::text::{repr, result_text};

    fn car(scenario: impl IntoIterator<Item = (&'static str, Value)>) -> VehicleControlApi {
        let scenario = scenario.into_iter().map(|(name, value)| (Value::str(name), value)).collect();
        VehicleControlApi::from_scenario(&scenario, &BfclContext::default()).expect("a valid scenario")
    }

    fn call(car: &mut VehicleControlApi, method: &str, arguments: &[Value]) -> String {
        match car.invoke(method, arguments) {
            Ok(value) => result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    fn all_doors() -> Value {
        Value::list(["driver", "passenger", "rear_left", "rear_right"].map(Value::str))
    }

    #[test]
    fn an_engine_starts_with_locked_doors_and_a_full_brake() {
        let mut car = car([("fuelLevel", Value::Float(12.5))]);
        let start = [Value::str("START")];
        assert_eq!(
            call(&mut car, "startEngine", &start),
            "{\"error\": \"All doors must be locked before starting the engine. Here are the unlocked doors: driver, \
             passenger, rear_left, rear_right\"}"
        );
        assert_eq!(
            call(&mut car, "lockDoors", &[Value::Bool(false), all_doors()]),
            r#"{"lockStatus": "locked", "remainingUnlockedDoors": 0}"#
        );
        assert_eq!(
            call(&mut car, "pressBrakePedal", &[Value::Bool(true)]),
            r#"{"brakePedalStatus": "pressed", "brakePedalForce": 1000.0}"#
        );
        assert_eq!(
            call(&mut car, "startEngine", &start),
            r#"{"engineState": "running", "fuelLevel": 12.5, "batteryVoltage": 12.6}"#
        );
        // The force is not compared, but shows: an int, because the position was one.
        assert_eq!(
            call(&mut car, "displayCarStatus", &[Value::str("brakePedal")]),
            r#"{"brakePedalStatus": "pressed", "brakePedalForce": 1000}"#
        );
        assert_eq!(call(&mut car, "startEngine", &[Value::str("STOP")]), r#"{"error": "Invalid ignition mode."}"#);
        assert_eq!(car.state().get("engine_state"), Some(&Value::str("stopped")));
    }

    #[test]
    fn doors_before_an_unknown_one_have_moved() {
        let mut car = car([]);
        let doors = Value::list(["driver", "trunk", "passenger"].map(Value::str));
        assert_eq!(call(&mut car, "lockDoors", &[Value::Bool(false), doors]), "Error during execution: 'trunk'");
        assert_eq!(car.state().get("remainingUnlockedDoors"), Some(&Value::int(3)));
    }

    #[test]
    fn cruise_control_keeps_the_distance_of_a_refused_speed() {
        let mut car = car([("engineState", Value::str("running"))]);
        let arguments = [Value::int(63), Value::Bool(true), Value::str(" 2_0 ")];
        assert_eq!(call(&mut car, "setCruiseControl", &arguments), r#"{"error": "Invalid speed"}"#);
        assert_eq!(car.state().get("distanceToNextVehicle"), Some(&Value::Float(20.0)));
        assert_eq!(car.state().get("cruiseStatus"), Some(&Value::str("inactive")));
    }

    #[test]
    fn what_is_stored_before_an_exception_stays() {
        let mut car = car([]);
        let arguments = [Value::str("warm"), Value::str("fahrenheit"), Value::int(10), Value::str("heat")];
        assert_eq!(
            call(&mut car, "adjustClimateControl", &arguments),
            "Error during execution: unsupported operand type(s) for -: 'str' and 'int'"
        );
        assert_eq!(
            call(&mut car, "set_navigation", &[Value::int(5)]),
            "Error during execution: can only concatenate str (not \"int\") to str"
        );
        let state = car.state();
        assert_eq!(state.get("acTemperature"), Some(&Value::str("warm")));
        assert_eq!(state.get("fanSpeed"), Some(&Value::int(50)));
        assert_eq!(state.get("destination"), Some(&Value::int(5)));
    }

    #[test]
    fn random_numbers_are_those_of_the_original() {
        let mut car = car([]);
        assert_eq!(
            call(&mut car, "get_outside_temperature_from_google", &[]),
            r#"{"outsideTemperature": 36.63485703790535}"#
        );
        assert_eq!(
            call(&mut car, "get_outside_temperature_from_google", &[]),
            r#"{"outsideTemperature": 31.29968928699752}"#
        );
    }

    #[test]
    fn long_context_adds_its_constants() {
        let names = [
            "CAR_STATUS_METADATA_EXTENSION",
            "INTERMEDIARY_CITIES",
            "LONG_WEATHER_EXTENSION",
            "PARKING_BRAKE_INSTRUCTION",
        ];
        let constants = names.map(|name| match name {
            "LONG_WEATHER_EXTENSION" => (name.to_owned(), Value::dict([("-1_day", Value::None)])),
            _ => (name.to_owned(), Value::str("long")),
        });
        let context = BfclContext {
            long_context: Some(Arc::new(LongContext::from_constants(constants))),
            ..BfclContext::default()
        };
        let mut car = VehicleControlApi::from_scenario(&Dict::new(), &context).expect("an empty scenario is valid");
        assert_eq!(
            call(&mut car, "get_outside_temperature_from_google", &[]),
            r#"{"-1_day": null, "outsideTemperature": 36.63485703790535}"#
        );
        assert_eq!(
            call(&mut car, "displayCarStatus", &[Value::str("roof")]),
            r#"{"metadata": "long", "error": "Invalid option"}"#
        );
        assert_eq!(
            call(&mut car, "estimate_distance", &[Value::str("74532"), Value::str("83214")]),
            r#"{"distance": 750.0, "intermediaryCities": "long"}"#
        );
        assert_eq!(car.state().get("long_context"), Some(&Value::Bool(true)));
    }

    #[test]
    fn forces_and_slope_are_not_compared() {
        let level = car([]);
        let steep = car([("slopeAngle", Value::Float(30.0)), ("parkingBrakeForce", Value::int(9))]);
        assert!(level.same_state(&steep));
        assert!(!level.same_state(&car([("fuelLevel", Value::int(1))])));
        assert!(repr(&Value::list(level.state().keys().cloned())).starts_with("['fuelLevel', 'batteryVoltage', "));
    }
}
