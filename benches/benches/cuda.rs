//! The CUDA operators at the sizes of Wan 2.1 1.3B, 832×480, 81 frames: medians, and arithmetic or bytes a second.
//!
//! `cargo bench -p kinora-benches --features cuda --bench cuda`; the first argument is how often each is timed.
#![allow(clippy::print_stdout, reason = "the results")]

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("there is nothing to measure without --features cuda");
}

#[cfg(feature = "cuda")]
fn main() -> candle_core::Result<()> {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10);
    gpu::Bench::new(runs)?.all()
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::{DType, Device, Result, Shape, Tensor};
    use kinora_kernels::{self as kernels, Epilogue, FrameConv, FrameConvOptions, LinearWeight};
    use std::time::Instant;

    const TOKENS: usize = 32760;
    const DIM: usize = 1536;
    const INNER: usize = 8960;

    pub struct Bench {
        device: Device,
        runs: usize,
    }

    impl Bench {
        pub fn new(runs: usize) -> Result<Self> {
            println!("| operator | ms | rate |\n|---|---|---|");
            Ok(Self { device: kernels::open_cuda(0)?, runs })
        }

        /// Normal numbers.
        fn tensor(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
            Tensor::randn(0f32, 1f32, shape, &self.device)?.to_dtype(dtype)
        }

        /// Prints the median over all runs but the first two; `amount` is in operations, or bytes.
        fn time(&self, name: &str, amount: f64, unit: &str, mut f: impl FnMut() -> Result<Tensor>) -> Result<()> {
            let mut seconds = Vec::new();
            for run in 0..self.runs + 2 {
                self.device.synchronize()?;
                let start = Instant::now();
                let out = f()?;
                self.device.synchronize()?;
                drop(out);
                if run >= 2 {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
            seconds.sort_by(f64::total_cmp);
            let median = seconds[seconds.len() / 2];
            println!("| {name} | {:.3} | {:.1} {unit} |", median * 1e3, amount / median / 1e12);
            Ok(())
        }

        pub fn all(&self) -> Result<()> {
            self.attention()?;
            self.linear()?;
            self.convolution()?;
            self.passes()
        }

        fn attention(&self) -> Result<()> {
            for (queries, keys, heads, width) in
                [(TOKENS, TOKENS, 12, 128), (TOKENS, 512, 12, 128), (27280, 27280, 24, 128), (8192, 8192, 12, 64)]
            {
                let [q, k, v] = [queries, keys, keys].map(|len| self.tensor((1, len, heads, width), DType::BF16));
                let (q, k, v) = (q?, k?, v?);
                let operations = 4.0 * (queries * keys * heads * width) as f64;
                let scale = (width as f64).sqrt().recip();
                let name = format!("attention {queries} × {keys}, {heads} heads of {width}");
                self.time(&format!("{name}, bf16"), operations, "TFLOP/s", || {
                    kernels::attention(&q, &k, &v, scale, None)
                })?;
                self.time(&format!("{name}, fp8"), operations, "TFLOP/s", || {
                    kernels::attention_fp8(&q, &k, &v, scale, None)
                })?;
            }
            Ok(())
        }

        fn linear(&self) -> Result<()> {
            for (inputs, outputs) in [(DIM, DIM), (DIM, INNER), (INNER, DIM)] {
                let x = self.tensor((1, TOKENS, inputs), DType::BF16)?;
                let weight = self.tensor((outputs, inputs), DType::BF16)?;
                let bias = self.tensor(outputs, DType::F32)?;
                let other = self.tensor((1, TOKENS, outputs), DType::BF16)?;
                let gate = self.tensor((1, 1, outputs), DType::F32)?;
                let operations = 2.0 * (TOKENS * inputs * outputs) as f64;
                let weights = [
                    ("bf16", LinearWeight::new(&weight)?),
                    ("fp8", LinearWeight::fp8(&weight)?),
                    ("int8", LinearWeight::int8(&weight)?),
                ];
                for (name, weight) in weights {
                    let epilogues = [
                        ("", Epilogue::None),
                        (", gelu", Epilogue::GeluTanh),
                        (", gated", Epilogue::GatedResidual { x: &other, gate: &gate }),
                    ];
                    for (kind, epilogue) in epilogues {
                        let name = format!("linear {inputs} → {outputs}, {name}{kind}");
                        self.time(&name, operations, "TFLOP/s", || {
                            kernels::linear(&x, &weight, Some(&bias), epilogue)
                        })?;
                    }
                }
            }
            Ok(())
        }

        fn convolution(&self) -> Result<()> {
            let same = FrameConvOptions { padding: (1, 1), ..Default::default() };
            let up = FrameConvOptions { upsample: true, ..same };
            let cases = [
                ([3, 3, 3], same, [480, 832], [96, 96]),
                ([3, 3, 3], same, [240, 416], [192, 192]),
                ([3, 3, 3], same, [120, 208], [384, 384]),
                ([3, 3, 3], same, [60, 104], [384, 384]),
                ([3, 3, 3], same, [480, 832], [96, 3]),
                ([3, 3, 3], same, [352, 640], [256, 256]),
                ([1, 3, 3], up, [240, 416], [192, 96]),
                ([1, 1, 1], FrameConvOptions::default(), [240, 416], [192, 384]),
            ];
            for (kernel, options, [h, w], [inputs, outputs]) in cases {
                let [kf, kh, kw] = kernel;
                let weight = self.tensor((outputs, inputs, kf, kh, kw), DType::F16)?;
                let bias = self.tensor(outputs, DType::F16)?;
                let conv = FrameConv::new(&weight, &bias, options)?;
                let frames: Vec<Tensor> =
                    (0..kf).map(|_| self.tensor((1, h, w, inputs), DType::F16)).collect::<Result<_>>()?;
                let taps: Vec<Option<&Tensor>> = frames.iter().map(Some).collect();
                let positions = h * w * if options.upsample { 4 } else { 1 };
                let operations = 2.0 * (positions * inputs * outputs * kf * kh * kw) as f64;
                let name = format!("convolution {kernel:?}, {inputs} → {outputs}, {h}×{w}");
                self.time(&name, operations, "TFLOP/s", || conv.forward(&taps, None))?;
            }
            Ok(())
        }

        fn passes(&self) -> Result<()> {
            let (heads, width) = (12, 128);
            let x = self.tensor((1, TOKENS, DIM), DType::BF16)?;
            let split = x.reshape((1, TOKENS, heads, width))?;
            let weight = self.tensor(DIM, DType::F32)?;
            let (shift, scale) = (self.tensor((1, 1, DIM), DType::F32)?, self.tensor((1, 1, DIM), DType::F32)?);
            let (cos, sin) =
                (self.tensor((TOKENS, width / 2), DType::F32)?, self.tensor((TOKENS, width / 2), DType::F32)?);
            let bytes = 4.0 * x.elem_count() as f64;
            self.time("layer_norm_modulate", bytes, "TB/s", || kernels::layer_norm_modulate(&x, &shift, &scale, 1e-6))?;
            self.time("rms_norm_rope", bytes, "TB/s", || kernels::rms_norm_rope(&split, &weight, 1e-6, &cos, &sin))?;
            let frame = self.tensor((1, 480, 832, 96), DType::F16)?;
            let gamma = self.tensor(96, DType::F32)?;
            let bytes = 4.0 * frame.elem_count() as f64;
            self.time("channel_rms_norm_silu", bytes, "TB/s", || kernels::channel_rms_norm_silu(&frame, &gamma))
        }
    }
}
