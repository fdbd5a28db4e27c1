//! Convolutions of frames agree with their reference, over dtypes and odd shapes, and have the same bits for every
//! number of threads.

use candle_core::{DType, Device, Tensor};
use kinora_kernels::{FrameConv, FrameConvOptions, reference};
use kinora_test_support::{random, relative_l2, values};

/// Relative L2 error of an f32 sum in another order.
const F32: f64 = 1e-6;

/// Winograd's transforms enlarge the rounding errors of random numbers by this much: the root mean square, over a
/// tile's outputs, of `(Aᵀ)² ((Bᵀ)² 1 · (G)² 1) / 3` for each of the two axes.
const WINOGRAD: f64 = 4.77;

/// Half a unit in the last place of 8 or 11 bits.
const ROUNDED: [(DType, f64); 2] = [(DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];

struct Case {
    /// Items, rows, columns.
    size: [usize; 3],
    channels: [usize; 2],
    kernel: [usize; 3],
    options: FrameConvOptions,
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let error = relative_l2(found, expected);
    assert!(error <= tolerance, "{what}: relative L2 error {error:e}, may be {tolerance:e}");
}

/// Compares with the reference for every number of frames that the clip may have so far, with and without a residual.
fn check(case: &Case) {
    let ([batch, h, w], [inputs, outputs], [kf, kh, kw]) = (case.size, case.channels, case.kernel);
    let frames: Vec<Tensor> = (0..kf).map(|tap| random((batch, h, w, inputs), tap as u64)).collect();
    let (weight, bias) = (random((outputs, inputs, kf, kh, kw), 10), random(outputs, 11));
    let is_winograd = [kh, kw] == [3, 3] && case.options.stride == 1;
    let f32_tolerance = if is_winograd { F32 * WINOGRAD } else { F32 };
    for (dtype, tolerance) in [(DType::F32, f32_tolerance)].into_iter().chain(ROUNDED) {
        let cast = |x: &Tensor| x.to_dtype(dtype).unwrap();
        let wide = |x: &Tensor| cast(x).to_dtype(DType::F32).unwrap();
        let conv = FrameConv::new(&cast(&weight), &cast(&bias), case.options).unwrap();
        for absent in 0..kf {
            let what = format!("{:?} to {outputs}, kernel {:?}, {dtype:?}, {absent} absent", case.size, case.kernel);
            let present = |frames: Vec<Tensor>| -> Vec<Option<Tensor>> {
                frames.into_iter().enumerate().map(|(tap, frame)| (tap >= absent).then_some(frame)).collect()
            };
            let narrow = present(frames.iter().map(cast).collect());
            let narrow: Vec<Option<&Tensor>> = narrow.iter().map(Option::as_ref).collect();
            let wide_frames = present(frames.iter().map(wide).collect());
            let wide_frames: Vec<Option<&Tensor>> = wide_frames.iter().map(Option::as_ref).collect();
            let (wide_weight, wide_bias) = (wide(&weight), wide(&bias));
            let expected = |residual: Option<&Tensor>| {
                reference::frame_conv(&wide_frames, &wide_weight, &wide_bias, case.options, residual).unwrap()
            };
            let plain = expected(None);
            let residual = random(plain.shape().clone(), 12);
            for residual in [None, Some(residual)] {
                let narrow_residual = residual.as_ref().map(cast);
                let [one, two] = [1, 2].map(|threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| conv.forward(&narrow, narrow_residual.as_ref())).unwrap()
                });
                let bits = |x: &Tensor| values(x).into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(bits(&one) == bits(&two), "{what}: one and two threads differ");
                assert_eq!(one.dtype(), dtype, "{what}");
                assert_close(&one, &expected(residual.as_ref().map(wide).as_ref()), tolerance, &what);
            }
        }
    }
}

fn check_all(kernel: [usize; 3], options: FrameConvOptions, sizes: &[([usize; 3], [usize; 2])]) {
    for &(size, channels) in sizes {
        check(&Case { size, channels, kernel, options });
    }
}

#[test]
fn three_by_three_by_three() {
    let options = FrameConvOptions { padding: (1, 1), ..Default::default() };
    let sizes = [
        ([1, 1, 1], [1, 1]),
        ([2, 5, 7], [3, 6]),
        ([1, 9, 4], [5, 33]),
        ([1, 4, 33], [17, 40]),
        ([2, 13, 11], [70, 3]),
        ([1, 34, 35], [24, 16]),
        ([1, 8, 8], [130, 300]),
    ];
    check_all([3, 3, 3], options, &sizes);
}

#[test]
fn three_by_three_with_other_paddings() {
    let sizes = [([1, 5, 6], [4, 5]), ([2, 3, 3], [20, 2])];
    for padding in [(0, 0), (0, 1), (2, 0), (3, 2)] {
        check_all([1, 3, 3], FrameConvOptions { padding, ..Default::default() }, &sizes);
    }
}

#[test]
fn upsampling() {
    let options = FrameConvOptions { padding: (1, 1), upsample: true, ..Default::default() };
    check_all([1, 3, 3], options, &[([1, 1, 1], [1, 2]), ([2, 5, 7], [6, 3]), ([1, 9, 10], [40, 33])]);
}

#[test]
fn reflections() {
    let options = FrameConvOptions { padding: (1, 1), reflect: true, ..Default::default() };
    let sizes = [([1, 2, 2], [1, 2]), ([2, 5, 7], [6, 3]), ([1, 9, 4], [40, 33]), ([1, 3, 34], [5, 6])];
    check_all([1, 3, 3], options, &sizes);
    check_all([3, 3, 3], options, &sizes);
}

#[test]
fn a_reflection_continues_the_frame_without_its_edge() {
    let x = Tensor::arange(0f32, 6f32, &Device::Cpu).unwrap().reshape((1, 2, 3, 1)).unwrap();
    let expected = [4., 3., 4., 5., 4., 1., 0., 1., 2., 1., 4., 3., 4., 5., 4., 1., 0., 1., 2., 1.];
    assert_eq!(values(&reference::reflected(&x).unwrap()), expected);
}

#[test]
fn strides() {
    for (stride, padding) in [(2, (0, 1)), (2, (1, 1)), (3, (2, 0)), (5, (1, 4))] {
        let options = FrameConvOptions { stride, padding, ..Default::default() };
        check_all([1, 3, 3], options, &[([2, 9, 10], [4, 5]), ([1, 2, 3], [18, 40]), ([1, 31, 130], [3, 2])]);
    }
}

#[test]
fn other_kernels() {
    let sizes = [([1, 1, 1], [1, 1]), ([2, 9, 31], [20, 7]), ([1, 8, 8], [33, 70])];
    for kernel in [[1, 1, 1], [3, 1, 1], [2, 1, 1]] {
        check_all(kernel, FrameConvOptions::default(), &sizes);
        check_all(kernel, FrameConvOptions { padding: (1, 2), ..Default::default() }, &sizes);
    }
    let options = FrameConvOptions { padding: (4, 3), ..Default::default() };
    check_all([2, 5, 2], options, &[([1, 2, 2], [2, 3]), ([1, 7, 3], [9, 4])]);
}

#[test]
fn weights_that_are_not_there_take_no_memory_and_count_as_what_they_are() {
    let weight = Tensor::new(0.5f32, &Device::Cpu).unwrap().broadcast_as((4, 3, 1, 3, 3)).unwrap();
    let bias = random(4, 1);
    let options = FrameConvOptions { padding: (1, 1), ..Default::default() };
    let x = random((1, 5, 6, 3), 2);
    let view = FrameConv::new(&weight, &bias, options).unwrap().forward(&[Some(&x)], None).unwrap();
    let packed = FrameConv::new(&weight.contiguous().unwrap(), &bias, options).unwrap();
    assert_close(&packed.forward(&[Some(&x)], None).unwrap(), &view, F32 * WINOGRAD, "a view");
}

#[test]
fn not_a_number_stays_visible() {
    for (kernel, padding) in [([1, 3, 3], (1, 1)), ([1, 1, 1], (0, 0))] {
        let [kf, kh, kw] = kernel;
        let conv = FrameConv::new(
            &random((2, 1, kf, kh, kw), 1),
            &random(2, 2),
            FrameConvOptions { padding, ..Default::default() },
        );
        let x = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, 4.0], (1, 2, 2, 1), &Device::Cpu).unwrap();
        assert!(values(&conv.unwrap().forward(&[Some(&x)], None).unwrap()).iter().any(|y| y.is_nan()));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let plain = FrameConvOptions::default();
    for (weight, bias, options) in [
        (vec![1, 2, 1, 1], 1, plain),
        (vec![1, 2, 1, 1, 1], 2, plain),
        (vec![1, 2, 1, 0, 1], 1, plain),
        (vec![0, 2, 1, 1, 1], 0, plain),
        (vec![1, 2, 1, 1, 1], 1, FrameConvOptions { stride: 0, ..plain }),
        (vec![1, 2, 1, 1, 1], 1, FrameConvOptions { upsample: true, ..plain }),
        (vec![1, 2, 1, 3, 3], 1, FrameConvOptions { upsample: true, stride: 2, ..plain }),
        (vec![1, 2, 1, 3, 3], 1, FrameConvOptions { reflect: true, ..plain }),
        (vec![1, 2, 1, 1, 1], 1, FrameConvOptions { reflect: true, padding: (1, 1), ..plain }),
    ] {
        assert!(FrameConv::new(&t(&weight), &t(&[bias]), options).is_err(), "{weight:?} {options:?}");
    }
    let conv = FrameConv::new(&t(&[4, 2, 2, 3, 3]), &t(&[4]), plain).unwrap();
    let x = t(&[1, 5, 6, 2]);
    conv.forward(&[None, Some(&x)], Some(&t(&[1, 3, 4, 4]))).unwrap();
    for frames in [
        vec![],
        vec![None, None],
        vec![Some(t(&[5, 6, 2])); 2],
        vec![Some(t(&[1, 5, 6, 3])); 2],
        vec![Some(t(&[1, 2, 6, 2])); 2],
        vec![Some(t(&[1, 0, 6, 2])); 2],
        vec![Some(x.clone()); 3],
        vec![Some(x.clone()), Some(t(&[1, 5, 7, 2]))],
        vec![Some(x.clone()), Some(x.to_dtype(DType::BF16).unwrap())],
    ] {
        let frames: Vec<_> = frames.iter().map(Option::as_ref).collect();
        assert!(conv.forward(&frames, None).is_err(), "{frames:?}");
    }
    for residual in [t(&[1, 3, 4, 5]), t(&[3, 4, 4]), t(&[1, 3, 4, 4]).to_dtype(DType::F16).unwrap()] {
        assert!(conv.forward(&[None, Some(&x)], Some(&residual)).is_err(), "{residual:?}");
    }
}
