//! Values on their way from a file to a model.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use kinora_checkpoint::{KeyMap, StoredMatrix, TensorFile, Weights, save_safetensors};
use std::collections::{BTreeMap, HashMap};

/// A checkpoint of one-dimensional tensors.
fn checkpoint(tensors: &[(&str, Tensor)], dtype: DType) -> Weights {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| ((*name).to_string(), tensor.clone())).collect();
    save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    // A file that is open stays.
    Weights::open(&[path], &[], &Device::Cpu, dtype).unwrap()
}

fn cpu<T: candle_core::WithDType>(values: &[T]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

#[test]
fn every_conversion_is_correctly_rounded() {
    let values: Vec<f64> = (0..70_000).map(|i| (f64::from(i) * 0.7).sin() * f64::from(i % 91)).collect();
    let stored = cpu(&values);
    let (single, brain, half) =
        (stored.to_dtype(DType::F32), stored.to_dtype(DType::BF16), stored.to_dtype(DType::F16));
    let tensors = [("f64", stored), ("f32", single.unwrap()), ("bf16", brain.unwrap()), ("f16", half.unwrap())];
    let weights = checkpoint(&tensors, DType::F32);
    for (name, tensor) in &tensors {
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let found = weights.get_dtype(name, 70_000, dtype).unwrap();
            let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(wide(&found), wide(&tensor.to_dtype(dtype).unwrap()), "{name} to {dtype:?}");
        }
        assert_eq!(weights.get_stored(name, 70_000).unwrap().dtype(), tensor.dtype());
    }
    assert_eq!(weights.get("bf16", 70_000).unwrap().dtype(), DType::F32);
    assert_eq!(weights.finish().unwrap().dtypes.len(), 4);
}

#[test]
fn eight_bit_floats() {
    // All 254 numbers of float8_e4m3fn, against the definition: (-1)^s * 2^(e-7) * (1 + m/8), or 2^-6 * m/8 for e = 0.
    let header = r#"{"a":{"dtype":"F8_E4M3","shape":[254],"data_offsets":[0,254]}}"#;
    let mut bytes = crate::safetensors(header, 0);
    let codes: Vec<u8> = (0..=255u8).filter(|code| code & 0x7f != 0x7f).collect();
    bytes.extend(&codes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let weights = Weights::open(std::slice::from_ref(&path), &[], &Device::Cpu, DType::F32).unwrap();
    let expected: Vec<f32> = codes
        .iter()
        .map(|code| {
            let (sign, e, m) = (f32::from(code >> 7), i32::from(code >> 3 & 15), f32::from(code & 7));
            let magnitude = if e == 0 { m / 8.0 / 64.0 } else { (1.0 + m / 8.0) * 2f32.powi(e - 7) };
            (1.0 - 2.0 * sign) * magnitude
        })
        .collect();
    assert_eq!(weights.get("a", 254).unwrap().to_vec1::<f32>().unwrap(), expected);
    let stored = weights.get_stored("a", 254).unwrap();
    assert_eq!(stored.dtype(), DType::BF16);
    assert_eq!(stored.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), expected);
    *bytes.last_mut().unwrap() = 0x7f;
    std::fs::write(folder.path().join("nan.safetensors"), &bytes).unwrap();
    let weights = Weights::open(&[folder.path().join("nan.safetensors")], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(weights.get("a", 254).unwrap_err().to_string(), "tensor `a` contains NaN or infinite values");
}

#[test]
fn values_that_are_no_numbers() {
    let mut values = vec![0.5f32; 200_000];
    values[199_999] = f32::NAN;
    let mut infinite = vec![bf16::ONE; 3];
    infinite[1] = bf16::NEG_INFINITY;
    let large = cpu(&[1.0f32, -1e30]);
    let tensors = [("nan", cpu(&values)), ("infinite", cpu(&infinite)), ("large", large), ("half", cpu(&[f16::NAN]))];
    let weights = checkpoint(&tensors, DType::F16);
    let message = |name: &str, n: usize| weights.get(name, n).unwrap_err().to_string();
    assert_eq!(message("nan", 200_000), "tensor `nan` contains NaN or infinite values");
    assert_eq!(message("infinite", 3), "tensor `infinite` contains NaN or infinite values");
    assert_eq!(message("half", 1), "tensor `half` contains NaN or infinite values");
    assert!(message("large", 2).starts_with("tensor `large` contains -10000000"), "{}", message("large", 2));
    assert!(message("large", 2).ends_with(", which f16 cannot hold"));
    assert!(weights.get_dtype("large", 2, DType::BF16).is_ok());
    let memory =
        Weights::from_tensors(HashMap::from([("nan".to_string(), cpu(&[f32::NAN]))]), &Device::Cpu, DType::F32);
    assert_eq!(memory.get("nan", 1).unwrap_err().to_string(), "tensor `nan` contains NaN or infinite values");
}

#[test]
fn missing_unused_and_misshapen() {
    let one = cpu(&[1.0f32]);
    let names = ["blocks.0.self_attn.q.weight", "blocks.1.self_attn.q.weight", "head.weight", "x", "y", "z"];
    let tensors: Vec<_> = names.iter().map(|name| (*name, one.clone())).collect();
    let weights = checkpoint(&tensors, DType::F32);
    let missing = |name: &str| weights.get(name, 1).unwrap_err().to_string();
    assert_eq!(
        missing("blocks.1.attn.q.weight"),
        "tensor `blocks.1.attn.q.weight` is missing; did you mean `blocks.1.self_attn.q.weight`?"
    );
    assert_eq!(missing("completely.different"), "tensor `completely.different` is missing");
    assert_eq!(
        weights.pp("head").get("weight", (1, 2)).unwrap_err().to_string(),
        "tensor `head.weight` has shape [1], the model needs [1, 2]"
    );
    assert_eq!(
        weights.finish().unwrap_err().to_string(),
        "6 of the checkpoint's tensors were not used: `blocks.0.self_attn.q.weight`, `blocks.1.self_attn.q.weight`, \
         `head.weight`, `x`, `y`, …"
    );
    assert!(weights.asked().is_empty());
    assert!(!weights.contains("w") && weights.contains("x"));
    for name in names {
        weights.get(name, 1).unwrap();
    }
    assert_eq!(weights.finish().unwrap().parameters, 6);
}

#[test]
fn random_weights_are_sane_and_repeatable() {
    let weights = Weights::random(7, &Device::Cpu, DType::F32);
    let statistics = |tensor: &Tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let n = values.len() as f64;
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        assert!(values.iter().all(|v| v.is_finite()));
        (mean, variance.sqrt())
    };
    let matrix = weights.get("a.weight", (1200, 1024)).unwrap();
    let (mean, deviation) = statistics(&matrix);
    assert!(mean.abs() < 1e-3 && (deviation * 32.0 - 1.0).abs() < 0.01, "{mean} {deviation}");
    let (mean, deviation) = statistics(&weights.get("a.bias", 4000).unwrap());
    assert!(mean.abs() < 0.002 && (deviation - 0.02).abs() < 0.002, "{mean} {deviation}");
    let (mean, deviation) = statistics(&weights.get("norm.gamma", (4000, 1, 1)).unwrap());
    assert!((mean - 1.0).abs() < 0.002 && (deviation - 0.02).abs() < 0.002, "{mean} {deviation}");
    let bits = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let again = Weights::random(7, &Device::Cpu, DType::F32);
    assert_eq!(bits(again.get("a.weight", (1200, 1024)).unwrap()), bits(matrix.clone()));
    assert_ne!(bits(again.get("b.weight", (1200, 1024)).unwrap()), bits(matrix.clone()));
    let other = Weights::random(8, &Device::Cpu, DType::F32);
    assert_ne!(bits(other.get("a.weight", (1200, 1024)).unwrap()), bits(matrix));
    assert_eq!(weights.finish().unwrap().parameters, 1200 * 1024 + 8000);
    assert_eq!(weights.get_dtype("h", (2, 2), DType::BF16).unwrap().dtype(), DType::BF16);
}

#[test]
fn recorders_remember_names_and_shapes() {
    let weights = Weights::recorder();
    weights.pp("blocks").pp(3).get("weight", (1 << 30, 1 << 20)).unwrap();
    assert_eq!(weights.asked(), BTreeMap::from([("blocks.3.weight".to_string(), vec![1 << 30, 1 << 20])]));
}

#[test]
fn headers_alone_tell_whether_a_module_fits() {
    let nan = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [("norm.weight".to_string(), nan), ("ids".to_string(), Tensor::new(&[1u32], &Device::Cpu).unwrap())];
    save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    let weights = Weights::headers_only(TensorFile::open_all(&[path]).unwrap(), &[], DType::F32).unwrap();
    let message = |name: &str, shape: (usize, usize)| weights.get(name, shape).unwrap_err().to_string();
    assert_eq!(
        message("norm.weight", (1 << 40, 2)),
        "tensor `norm.weight` has shape [2], the model needs [1099511627776, 2]"
    );
    assert_eq!(message("norm.wight", (1, 1)), "tensor `norm.wight` is missing; did you mean `norm.weight`?");
    assert!(weights.get("ids", 1).unwrap_err().to_string().contains("is stored as U32"));
    // Data is not read: not even that it is no number is noticed.
    assert_eq!(weights.get("norm.weight", 2).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0]);
    assert!(weights.finish().unwrap_err().to_string().ends_with("was not used: `ids`"));
}

#[test]
fn placeholders_say_how_many_bytes_the_tensors_would_have() {
    let weights = Weights::recorder_of(DType::BF16);
    weights.get("a.weight", (3, 5)).unwrap();
    weights.get_dtype("a.norm", 7, DType::F32).unwrap();
    weights.pp("a").get("weight", (3, 5)).unwrap(); // the same tensor
    assert_eq!(weights.bytes(), 3 * 5 * 2 + 7 * 4);
    weights.pp("a").kept_in("weight", 100, "", Vec::new());
    assert_eq!(weights.bytes(), 100 + 7 * 4);
}

/// A file that another program cuts or writes is an error, of any tensor and at any time.
#[test]
fn a_file_that_changes_while_it_is_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = || {
        let large = Tensor::ones((64, 1 << 14), DType::F32, &Device::Cpu).unwrap();
        save_safetensors(&path, &[("large".to_string(), large)], &BTreeMap::new()).unwrap();
    };
    let refused = |change: &dyn Fn(&std::fs::File)| {
        write();
        let weights = Weights::open(std::slice::from_ref(&path), &[], &Device::Cpu, DType::F32).unwrap();
        weights.get("large", (64, 1 << 14)).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        change(&file);
        let error = weights.get("large", (64, 1 << 14)).unwrap_err();
        assert!(error.hint().unwrap().contains("start again"));
        error.to_string()
    };
    let expected = format!("{} changed while it was read", path.display());
    assert_eq!(refused(&|file| file.set_len(1 << 20).unwrap()), expected);
    assert_eq!(refused(&|file| file.set_len(0).unwrap()), expected);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    assert_eq!(refused(&|file| file.set_modified(later).unwrap()), expected);
    // Another file of the same name is none of the one that is open.
    write();
    let weights = Weights::open(std::slice::from_ref(&path), &[], &Device::Cpu, DType::F32).unwrap();
    write();
    weights.get("large", (64, 1 << 14)).unwrap();
}

#[test]
fn matrices_of_zeros_are_errors_and_vectors_are_not() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let mut corner = vec![0f32; 1 << 20];
    corner[(1 << 20) - 1] = 1e-30;
    let corner = Tensor::from_vec(corner, (1 << 10, 1 << 10), &Device::Cpu).unwrap();
    let weights = checkpoint(
        &[("matrix", zeros(&[3, 4])), ("bias", zeros(&[4])), ("row", zeros(&[1, 4, 1])), ("corner", corner)],
        DType::F32,
    );
    assert_eq!(weights.get("matrix", (3, 4)).unwrap_err().to_string(), "tensor `matrix` holds nothing but zeros");
    assert!(weights.get_stored("matrix", (3, 4)).is_err());
    weights.allowing_zeros().get("matrix", (3, 4)).unwrap();
    weights.get("bias", 4).unwrap();
    weights.get("row", (1, 4, 1)).unwrap();
    weights.get("corner", (1 << 10, 1 << 10)).unwrap();
}

/// A table that is stored under two names: the one that is not zero is taken, and two that differ are an error.
#[test]
fn of_two_tables_the_one_with_values_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let map = KeyMap::new("toy", [("shared", "table"), ("own", "table")]).dropping_duplicate("shared", "own");
    let open = || {
        Weights::open(std::slice::from_ref(&path), &[&map], &Device::Cpu, DType::F32).map_err(|error| error.to_string())
    };
    let table = |shared: f32, own: f32| {
        let tensor = |value: f32| Tensor::full(value, (300, 100), &Device::Cpu).unwrap();
        let tensors = [("shared".to_string(), tensor(shared)), ("own".to_string(), tensor(own))];
        save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let weights = open()?;
        let table = weights.get_stored("table", (300, 100)).map_err(|error| error.to_string())?;
        Ok(table.flatten_all().unwrap().to_vec1::<f32>().unwrap()[7])
    };
    assert_eq!(table(2.0, 2.0), Ok(2.0));
    assert_eq!(table(2.0, 0.0), Ok(2.0));
    assert_eq!(table(0.0, 3.0), Ok(3.0));
    assert_eq!(table(0.0, 0.0), Err("tensor `table` holds nothing but zeros".to_string()));
    let differ = "tensors `own` and `shared` are one in the model, but differ".to_string();
    assert_eq!(table(2.0, 3.0), Err(differ.clone()));

    // Two that are quantised are looked at, too, and the one that is taken stays so. 2 is 0x40, 3 is 0x44.
    let stored = |shared: u8, own: u8| {
        let info =
            |at: usize| format!(r#"{{"dtype":"F8_E4M3","shape":[300,100],"data_offsets":[{at},{}]}}"#, at + 30_000);
        let header = format!(r#"{{"shared":{},"own":{}}}"#, info(0), info(30_000));
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(&path, [&length[..], header.as_bytes(), &vec![shared; 30_000], &vec![own; 30_000]].concat())
            .unwrap();
        let weights = open()?;
        let Some(StoredMatrix::Matrix(matrix)) = weights.matrix("table", [300, 100]).unwrap() else {
            panic!("it is widened")
        };
        let mut row = [0f32; 100];
        matrix.dequantise(3, 0, &mut row);
        Ok(row[7])
    };
    assert_eq!(stored(0x40, 0x40), Ok(2.0));
    assert_eq!(stored(0, 0x44), Ok(3.0));
    assert_eq!(stored(0x40, 0), Ok(2.0));
    assert_eq!(stored(0x40, 0x44), Err(differ));
}
