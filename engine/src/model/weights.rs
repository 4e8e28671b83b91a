//! Weights on disk: safetensors in Hugging Face's names and layout, both ways.
//!
//! Reads and writes bytes; files are the callers' business. burn keeps projections as `[in, out]`, Hugging Face as
//! `[out, in]`: they are transposed here and nowhere else.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{ModelConfig, Transformer};

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Four bytes: nothing is lost. What training resumes from.
    #[default]
    F32,
    /// Two bytes, 11 bits of precision, up to 65,504.
    F16,
    /// Two bytes, 8 bits of precision, the range of f32.
    Bf16,
}

/// A file of weights that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file.
    #[error(
        "not a usable safetensors file: {0}. Copy it again, or convert the model with transformers' `save_pretrained`."
    )]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor is not there.
    #[error("the weights have no tensor `{name}`. Is the config.json beside them of the same model?")]
    Missing {
        /// Its name in Hugging Face's layout.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor `{name}` has shape {found:?} where config.json asks for {expected:?}.")]
    Shape {
        /// Its name.
        name: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
    },
    /// A tensor has a type that cannot be read.
    #[error(
        "tensor `{name}` holds {found:?}; f32, f16 and bf16 can be read. Convert the model with `torch_dtype=torch.float32`."
    )]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        found: Dtype,
    },
}

/// Numbers with a shape, in Hugging Face's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Shape.
    pub shape: Vec<usize>,
    /// Values, row by row.
    pub values: Vec<f32>,
}

/// Tensors by name, sorted, so that the same tensors make the same file.
pub type HostTensors = BTreeMap<String, HostTensor>;

/// Writes tensors as a safetensors file.
pub fn to_safetensors(tensors: &HostTensors, precision: Precision) -> Vec<u8> {
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
        Precision::Bf16 => Dtype::BF16,
    };
    let bytes: Vec<(&String, &HostTensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.values.iter();
            let bytes = match precision {
                Precision::F32 => values.flat_map(|value| value.to_le_bytes()).collect(),
                Precision::F16 => values.flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
                Precision::Bf16 => values.flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            };
            (name, tensor, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, tensor, bytes)| {
        let view = TensorView::new(dtype, tensor.shape.clone(), bytes).expect("shape and bytes agree");
        (name.as_str(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    safetensors::serialize(views, Some(metadata)).expect("names are unique")
}

/// Reads all tensors of a safetensors file.
pub fn from_safetensors(bytes: &[u8]) -> Result<HostTensors, WeightsError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = HostTensors::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let pairs = data.as_chunks::<2>().0.iter();
        let values = match view.dtype() {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect(),
            Dtype::F16 => pairs.map(|chunk| f16::from_le_bytes(*chunk).to_f32()).collect(),
            Dtype::BF16 => pairs.map(|chunk| bf16::from_le_bytes(*chunk).to_f32()).collect(),
            found => return Err(WeightsError::Type { name, found }),
        };
        tensors.insert(name, HostTensor { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

impl Transformer {
    /// Its weights under Hugging Face's names. Adapters are merged into the weights that they adapt.
    ///
    /// Waits for the device; in a browser, that is an error of ours unless the device is the CPU.
    pub async fn to_host(&self) -> HostTensors {
        let merged = self.clone().materialize().parameters_to_host(|_| true).await;
        merged.into_iter().map(|(path, tensor)| in_hugging_face_layout(&path, tensor)).collect()
    }

    /// Parameters in burn's layout, by path, in the model's order; those of adapters behind the ones that they adapt.
    pub(super) async fn parameters_to_host(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, HostTensor)> {
        let mut collect = Collect { wanted, path: Vec::new(), found: Vec::new() };
        self.visit(&mut collect);
        let mut parameters = Vec::with_capacity(collect.found.len());
        for (path, shape, tensor) in collect.found {
            let data = tensor.into_data_async().await.expect("a device that can be read");
            let values = data.convert::<f32>().try_into_vec::<f32>().expect("converted");
            parameters.push((path, HostTensor { shape, values }));
        }
        parameters
    }

    /// A model with these weights, in Hugging Face's names and layout.
    pub fn from_host(config: &ModelConfig, tensors: &HostTensors, device: &Device) -> Result<Self, WeightsError> {
        // Shapes only; every value is replaced.
        let mut load = Load { path: Vec::new(), tensors, device, error: None };
        let model = config.init(0, device).map(&mut load);
        match load.error {
            None => Ok(model),
            Some(error) => Err(error),
        }
    }
}

/// Hugging Face's name of a parameter.
fn hugging_face_name(path: &str) -> String {
    if path.starts_with("lm_head") { path.to_owned() } else { format!("model.{path}") }
}

/// A parameter from burn's layout and path to Hugging Face's.
pub(super) fn in_hugging_face_layout(path: &str, tensor: HostTensor) -> (String, HostTensor) {
    let HostTensor { shape, values } = &tensor;
    let tensor = if is_projection(path) { transposed(values, shape[0], shape[1]) } else { tensor };
    (hugging_face_name(path), tensor)
}

/// Whether burn keeps it transposed.
pub(super) fn is_projection(path: &str) -> bool {
    path.ends_with("_proj.weight")
}

/// `[rows, columns]` to `[columns, rows]`.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> HostTensor {
    let across = (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column]));
    HostTensor { shape: vec![columns, rows], values: across.collect() }
}

/// Collects parameters with their paths.
struct Collect<F> {
    wanted: F,
    path: Vec<String>,
    found: Vec<(String, Vec<usize>, Tensor<1>)>,
}

impl<F: Fn(&str) -> bool> ModuleVisitor for Collect<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if (self.wanted)(&path) {
            let tensor = param.val().detach();
            let shape = tensor.dims().to_vec();
            self.found.push((path, shape.clone(), tensor.reshape([shape.iter().product::<usize>()])));
        }
    }
}

/// Puts given values into parameters.
struct Load<'a> {
    path: Vec<String>,
    tensors: &'a HostTensors,
    device: &'a Device,
    error: Option<WeightsError>,
}

impl Load<'_> {
    fn values(&self, path: &str, dims: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let name = hugging_face_name(path);
        let Some(tensor) = self.tensors.get(&name) else { return Err(WeightsError::Missing { name }) };
        let mut expected = dims.to_vec();
        if is_projection(path) {
            expected.reverse();
        }
        if tensor.shape != expected {
            return Err(WeightsError::Shape { name, expected, found: tensor.shape.clone() });
        }
        if is_projection(path) {
            return Ok(transposed(&tensor.values, expected[0], expected[1]).values);
        }
        Ok(tensor.values.clone())
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dims = param.dims();
        match self.values(&self.path.join("."), &dims) {
            Ok(values) => {
                let tensor = Tensor::from_data(TensorData::new(values, dims), self.device);
                param.map(|old| if old.is_require_grad() { tensor.require_grad() } else { tensor })
            }
            Err(error) => {
                self.error.get_or_insert(error);
                param
            }
        }
    }
}
