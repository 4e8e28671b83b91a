//! Which device computes: chosen at run time, by name or by what is there.
//!
//! Every build has `flex` (CPU). The others are features of this crate, because they bring a driver layer and a shader
//! compiler with them. `auto` takes the first of CUDA, Metal, Vulkan and wgpu that was built in and finds a real card, else
//! `flex`; a software adapter (llvmpipe, lavapipe, WARP, SwiftShader) is slower than `flex` and is taken only by name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The environment variable that names a device, as `--device` does.
pub const DEVICE_VARIABLE: &str = "PARL_DEVICE";

/// A device as a user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// The best one that is there.
    #[default]
    Auto,
    /// The CPU, by burn's Flex backend.
    Flex,
    /// A GPU by whatever graphics interface wgpu settles on.
    Wgpu,
    /// A GPU by Vulkan.
    Vulkan,
    /// A GPU by Metal.
    Metal,
    /// An NVIDIA GPU by CUDA.
    Cuda,
}

impl DeviceChoice {
    /// All choices.
    pub const ALL: [Self; 6] = [Self::Auto, Self::Flex, Self::Wgpu, Self::Vulkan, Self::Metal, Self::Cuda];

    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] = &["auto", "flex", "wgpu", "vulkan", "metal", "cuda"];

    /// What `auto` looks for, best first.
    pub const AUTO_ORDER: [Self; 5] = [Self::Cuda, Self::Metal, Self::Vulkan, Self::Wgpu, Self::Flex];

    /// The name, as in `--device` and in configurations.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether this program was built with it.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Auto | Self::Flex => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// What it runs on, in a few words.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Auto => "the best device that is there",
            Self::Flex => "CPU (burn Flex)",
            Self::Wgpu => "GPU through wgpu, any graphics interface",
            Self::Vulkan => "GPU through Vulkan",
            Self::Metal => "GPU through Metal (macOS)",
            Self::Cuda => "NVIDIA GPU through CUDA",
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let known = Self::ALL.into_iter().find(|choice| choice.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| DeviceError::Unknown { name: name.to_owned() })
    }
}

/// Why there is no such device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The name means nothing.
    #[error("there is no device `{name}`; take one of {}", DeviceChoice::NAMES.join(", "))]
    Unknown {
        /// As given.
        name: String,
    },
    /// This program was built without it.
    #[error(
        "this program was built without {choice}. Build it with `cargo build --release --features {choice}`, \
         or take --device auto"
    )]
    NotBuiltIn {
        /// What was asked for.
        choice: DeviceChoice,
    },
    /// It was built in, but the machine has none.
    #[error("no {choice} device was found ({}). `parl devices` shows what is there", .choice.description())]
    NotFound {
        /// What was asked for.
        choice: DeviceChoice,
    },
}

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct FoundDevice {
    /// By which choice it is reached.
    pub choice: DeviceChoice,
    /// Its own name, such as `NVIDIA H100 PCIe`; the number of cores for the CPU.
    pub name: String,
    /// Whether it is a graphics driver that computes on the CPU.
    pub software: bool,
    /// The handle for tensors.
    pub device: Device,
}

/// The device taken, and why.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    /// By which choice it is reached; never `auto`.
    pub choice: DeviceChoice,
    /// The handle for tensors.
    pub device: Device,
    /// Its own name.
    pub name: String,
    /// Why it was taken, in words.
    pub reason: String,
}

/// All devices of this machine that this program can use by `choice`; those of every choice for `auto`. Opens each.
pub fn find(choice: DeviceChoice) -> Vec<FoundDevice> {
    match choice {
        DeviceChoice::Auto => DeviceChoice::AUTO_ORDER.into_iter().flat_map(find).collect(),
        DeviceChoice::Flex => {
            let cores = crate::platform::available_cores();
            let name = format!("CPU, {cores} core{}", if cores == 1 { "" } else { "s" });
            vec![FoundDevice { choice, name, software: false, device: Device::flex() }]
        }
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu => enumerate(choice, burn::tensor::DeviceType::Wgpu),
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan => enumerate(choice, burn::tensor::DeviceType::Vulkan),
        #[cfg(feature = "metal")]
        DeviceChoice::Metal => enumerate(choice, burn::tensor::DeviceType::Metal),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => enumerate(choice, burn::tensor::DeviceType::Cuda),
        #[allow(unreachable_patterns, reason = "with all features there is nothing left")]
        _ => Vec::new(),
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn enumerate(choice: DeviceChoice, kind: burn::tensor::DeviceType) -> Vec<FoundDevice> {
    let devices = Device::enumerate(kind).into_vec().into_iter();
    devices
        .map(|device| {
            let identity = device.identity();
            // A device that is no card is a software rasteriser.
            let software = identity.as_ref().is_none_or(|identity| identity.physical.is_none());
            let name = identity.map_or_else(|| format!("{device:?}"), |identity| identity.name);
            FoundDevice { choice, name, software, device }
        })
        .collect()
}

/// Takes a device: the one named, or for `auto` the best that is there.
pub fn select(choice: DeviceChoice) -> Result<SelectedDevice, DeviceError> {
    choose(choice, DeviceChoice::is_built_in, find)
}

/// [`select`], with what is built in and what is there as arguments.
fn choose(
    choice: DeviceChoice,
    built_in: impl Fn(DeviceChoice) -> bool,
    find: impl Fn(DeviceChoice) -> Vec<FoundDevice>,
) -> Result<SelectedDevice, DeviceError> {
    let take = |found: FoundDevice, reason: String| SelectedDevice {
        choice: found.choice,
        device: found.device,
        name: found.name,
        reason,
    };
    if choice != DeviceChoice::Auto {
        if !built_in(choice) {
            return Err(DeviceError::NotBuiltIn { choice });
        }
        let mut all = find(choice);
        // A real card before a software one, whatever the order of the driver.
        all.sort_by_key(|found| found.software);
        let found = all.into_iter().next().ok_or(DeviceError::NotFound { choice })?;
        let reason = if found.software { "asked for; it is a software adapter" } else { "asked for" };
        return Ok(take(found, reason.to_owned()));
    }
    let (mut not_built_in, mut passed_over) = (Vec::new(), Vec::new());
    for candidate in DeviceChoice::AUTO_ORDER {
        if !built_in(candidate) {
            not_built_in.push(candidate.name());
            continue;
        }
        let (software, real): (Vec<_>, Vec<_>) = find(candidate).into_iter().partition(|found| found.software);
        if let Some(found) = real.into_iter().next() {
            if !not_built_in.is_empty() {
                passed_over.push(format!("not built in: {}", not_built_in.join(", ")));
            }
            let reason = if passed_over.is_empty() { "the first choice".to_owned() } else { passed_over.join("; ") };
            return Ok(take(found, format!("auto: {reason}")));
        }
        passed_over.push(match software.first() {
            Some(found) => format!("{candidate} has only {} (software)", found.name),
            None => format!("no {candidate} device found"),
        });
    }
    unreachable!("flex is always there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(choice: DeviceChoice, name: &str, software: bool) -> FoundDevice {
        FoundDevice { choice, name: name.to_owned(), software, device: Device::flex() }
    }

    #[test]
    fn names_are_read_and_written() {
        for (choice, name) in DeviceChoice::ALL.into_iter().zip(DeviceChoice::NAMES) {
            assert_eq!(choice.to_string(), *name);
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(serde_json::to_value(choice).unwrap(), *name);
        }
        assert_eq!("FLEX".parse(), Ok(DeviceChoice::Flex));
        let error = "gpu".parse::<DeviceChoice>().unwrap_err().to_string();
        assert_eq!(error, "there is no device `gpu`; take one of auto, flex, wgpu, vulkan, metal, cuda");
    }

    #[test]
    fn the_cpu_is_always_there() {
        let flex = select(DeviceChoice::Flex).unwrap();
        assert_eq!((flex.choice, flex.reason.as_str()), (DeviceChoice::Flex, "asked for"));
        assert!(flex.name.starts_with("CPU, "));
        let auto = select(DeviceChoice::Auto).unwrap();
        assert_ne!(auto.choice, DeviceChoice::Auto);
        assert!(auto.reason.starts_with("auto: "), "{}", auto.reason);
    }

    #[test]
    fn auto_takes_a_card_and_no_software_adapter() {
        let all = |_| true;
        let machine = |choice| match choice {
            DeviceChoice::Vulkan => vec![found(choice, "llvmpipe", true), found(choice, "Radeon", false)],
            DeviceChoice::Wgpu => vec![found(choice, "llvmpipe", true)],
            DeviceChoice::Flex => vec![found(choice, "CPU", false)],
            _ => Vec::new(),
        };
        let card = choose(DeviceChoice::Auto, all, machine).unwrap();
        assert_eq!((card.name.as_str(), card.choice), ("Radeon", DeviceChoice::Vulkan));
        assert_eq!(card.reason, "auto: no cuda device found; no metal device found");
        assert_eq!(choose(DeviceChoice::Vulkan, all, machine).unwrap().name, "Radeon");

        let only_software = |choice| match choice {
            DeviceChoice::Vulkan => vec![found(choice, "llvmpipe", true)],
            DeviceChoice::Flex => vec![found(choice, "CPU", false)],
            _ => Vec::new(),
        };
        let built_in = |choice| choice != DeviceChoice::Cuda;
        let cpu = choose(DeviceChoice::Auto, built_in, only_software).unwrap();
        assert_eq!(cpu.choice, DeviceChoice::Flex);
        assert_eq!(
            cpu.reason,
            "auto: no metal device found; vulkan has only llvmpipe (software); no wgpu device found; not built in: cuda"
        );
        let named = choose(DeviceChoice::Vulkan, built_in, only_software).unwrap();
        assert_eq!(named.reason, "asked for; it is a software adapter");
    }

    #[test]
    fn what_is_missing_comes_with_a_remedy() {
        let none = |_| Vec::new();
        let not_built = choose(DeviceChoice::Cuda, |_| false, none).unwrap_err().to_string();
        insta::assert_snapshot!(not_built, @"this program was built without cuda. Build it with `cargo build --release --features cuda`, or take --device auto");
        let not_found = choose(DeviceChoice::Vulkan, |_| true, none).unwrap_err().to_string();
        insta::assert_snapshot!(not_found, @"no vulkan device was found (GPU through Vulkan). `parl devices` shows what is there");
    }
}
