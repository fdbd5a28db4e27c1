//! Tensors that are saved and read back.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{TensorFile, check_writable, load_safetensors, save_safetensors};
use std::collections::BTreeMap;

fn latents() -> Tensor {
    Tensor::arange(0f32, 3.0 * 5.0 * 7.0, &Device::Cpu).unwrap().reshape((1, 3, 5, 7)).unwrap()
}

#[test]
fn what_is_saved_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latents.safetensors");
    let metadata = BTreeMap::from([("prompt".to_string(), "a \"red\" ball\n一个红球".to_string())]);
    let transposed = latents().transpose(1, 3).unwrap();
    let dtypes = [DType::F64, DType::F32, DType::BF16, DType::F16, DType::I64, DType::U32, DType::U8];
    let mut tensors: Vec<_> =
        dtypes.iter().map(|dtype| (format!("as {dtype:?}"), latents().to_dtype(*dtype).unwrap())).collect();
    tensors.push(("transposed".to_string(), transposed));
    tensors.push(("scalar".to_string(), Tensor::new(3f32, &Device::Cpu).unwrap()));
    save_safetensors(&path, &tensors, &metadata).unwrap();
    let (found, strings) = load_safetensors(&path).unwrap();
    assert_eq!(strings, metadata);
    assert_eq!(found.len(), tensors.len());
    for (name, tensor) in tensors {
        assert_eq!((found[&name].dtype(), found[&name].dims()), (tensor.dtype(), tensor.dims()));
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(wide(&found[&name]), wide(&tensor), "{name}");
    }
    // No temporary file is left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_saved_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latents.safetensors");
    let save = |names: &[&str]| {
        let tensors: Vec<_> = names.iter().map(|name| ((*name).to_string(), latents())).collect();
        save_safetensors(&path, &tensors, &BTreeMap::new())
    };
    save(&["a"]).unwrap();
    assert!(save(&["b", "b"]).unwrap_err().to_string().contains("tensor `b`: its name is taken by another tensor"));
    assert!(save(&["__metadata__"]).is_err());
    assert!(load_safetensors(&path).unwrap().0.contains_key("a"));
    let nowhere = folder.path().join("no/such/folder/x.safetensors");
    let error = save_safetensors(&nowhere, &[], &BTreeMap::new()).unwrap_err();
    assert_eq!(error.hint().unwrap(), "check the path");
    assert!(check_writable(&path).is_ok());
    assert!(check_writable(&nowhere).unwrap_err().to_string().contains("no/such/folder: "));
    assert!(check_writable(folder.path()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn saved_files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    save_safetensors(&folder.path().join("saved"), &[], &BTreeMap::new()).unwrap();
    assert_eq!(mode("saved"), mode("plain"));
}

#[test]
fn slices_along_every_axis() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latents.safetensors");
    save_safetensors(&path, &[("latents".to_string(), latents())], &BTreeMap::new()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (axis, start, len) in [(0, 0, 1), (1, 1, 2), (2, 4, 1), (2, 0, 5), (3, 2, 3), (3, 7, 0)] {
        let (found, expected) =
            (file.narrow("latents", axis, start, len).unwrap(), latents().narrow(axis, start, len).unwrap());
        assert_eq!(found.dims(), expected.dims());
        assert_eq!(bits(&found), bits(&expected), "axis {axis}");
    }
    for (axis, start, len) in [(4, 0, 1), (2, 5, 1), (2, usize::MAX, 2)] {
        assert!(file.narrow("latents", axis, start, len).is_err());
    }
    assert!(file.narrow("noise", 0, 0, 1).unwrap_err().to_string().ends_with("tensor `noise`: is not in the file"));
}
