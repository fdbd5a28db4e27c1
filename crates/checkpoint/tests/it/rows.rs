//! Tables of which some rows are read, and tensors that are asked for without being read.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Error, Weights, save_safetensors};
use std::collections::{BTreeMap, HashMap};

/// A table `[5, 3]` whose last row is no number.
fn table() -> Tensor {
    let values: Vec<f64> = (0..15).map(|i| if i < 12 { f64::from(i) / 4.0 } else { f64::NAN }).collect();
    Tensor::from_vec(values, (5, 3), &Device::Cpu).unwrap()
}

fn stored(dtype: DType) -> Weights {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = [("below.table".to_string(), table().to_dtype(dtype).unwrap())];
    save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    // A file that is open stays.
    Weights::open(&[path], &[], &Device::Cpu, DType::F32).unwrap()
}

fn rows_of(weights: &Weights, ids: &[u32], dtype: DType) -> Result<Vec<Vec<f32>>, Error> {
    let rows = weights.pp("below").rows("table", [5, 3], ids, dtype)?;
    assert_eq!(rows.dtype(), dtype);
    Ok(rows.to_dtype(DType::F32)?.to_vec2()?)
}

#[test]
fn some_rows_are_read_without_the_others() {
    for stored_as in [DType::F32, DType::BF16, DType::F16] {
        for dtype in [DType::F32, DType::BF16] {
            let weights = stored(stored_as);
            let expected = [vec![1.5, 1.75, 2.0], vec![0.0, 0.25, 0.5], vec![1.5, 1.75, 2.0]];
            assert_eq!(rows_of(&weights, &[2, 0, 2], dtype).unwrap(), expected, "{stored_as:?} as {dtype:?}");
            assert_eq!(weights.finish().unwrap().tensors, 1);
            assert!(matches!(rows_of(&weights, &[0, 4], dtype), Err(Error::NotFinite { .. })));
        }
    }
}

#[test]
fn rows_that_are_not_there_are_errors() {
    let weights = stored(DType::F32);
    let error = rows_of(&weights, &[1, 5], DType::F32).unwrap_err().to_string();
    assert!(error.contains("`below.table` has no row 5 of 5"), "{error}");
    assert!(matches!(weights.rows("below.table", [6, 3], &[0], DType::F32), Err(Error::Shape { .. })));
    assert!(matches!(weights.rows("table", [5, 3], &[0], DType::F32), Err(Error::Missing { .. })));
}

#[test]
fn tables_that_are_read_whole_have_the_same_rows() {
    // Of f64, there are no stored matrices.
    assert!(matches!(rows_of(&stored(DType::F64), &[0], DType::F32), Err(Error::NotFinite { .. })));
    let finite = table().narrow(0, 0, 4).unwrap();
    let weights = Weights::from_tensors(HashMap::from([("table".into(), finite)]), &Device::Cpu, DType::F32);
    let rows = weights.rows("table", [4, 3], &[3, 1], DType::F32).unwrap();
    assert_eq!(rows.to_vec2::<f32>().unwrap(), [[2.25, 2.5, 2.75], [0.75, 1.0, 1.25]]);
}

#[test]
fn tensors_that_are_asked_for_unread_are_checked_and_count() {
    let weights = stored(DType::F32);
    let unread = weights.unread().pp("below");
    assert!(matches!(unread.get("table", (5, 4)), Err(Error::Shape { .. })));
    assert!(matches!(unread.get("chair", (5, 3)), Err(Error::Missing { .. })));
    assert!(weights.finish().is_err());
    assert_eq!(unread.rows("table", [5, 3], &[4], DType::BF16).unwrap().dims(), [1, 3]);
    let zeros = unread.get("table", (5, 3)).unwrap();
    assert_eq!(zeros.to_vec2::<f32>().unwrap(), [[0.0; 3]; 5]);
    assert_eq!(weights.finish().unwrap().tensors, 1);
    assert!(matches!(weights.get("below.table", (5, 3)), Err(Error::NotFinite { .. })));
}
