//! [`Fitting`]: fits a plan into the memory of this machine.

use super::Plan;
use super::enlarge::enlarging_bytes;
use super::machine;
use super::memory::{self, Demand, MemoryPlan, PartMemory};
use super::placement::Placement;
use super::planned::Planned;
use crate::Result;
use crate::families::capabilities::Limits;
use crate::families::family::Family;
use crate::model::Model;
use crate::request::output::Output;
use candle_core::DType;
use kinora_checkpoint::Quant;

/// A model on this machine.
pub(crate) struct Fitting<'a> {
    pub model: &'a Model,
    pub family: &'static dyn Family,
    pub limits: &'a Limits,
    pub placement: &'a Placement,
    pub threads: usize,
    /// Bytes that were resident when the model was loaded.
    pub idle: Option<u64>,
}

impl Fitting<'_> {
    /// Fits `plan` into the memory of this machine, and adds notices about it.
    pub(crate) fn fit(&self, plan: Plan, mut notices: Vec<String>, output: &Output) -> Result<Planned> {
        if plan.attention.keep().is_some() {
            self.placement.check_sparse()?;
        }
        let [_, _, h, w] = plan.latent_shape;
        let tile = self.tile(output, [h, w])?;
        if output.tile.is_none() {
            notices.extend(tile.filter(|&side| side < h.max(w)).map(in_tiles));
        }
        let placement = self.fitted(&plan, tile)?;
        let beside = |latents: [usize; 4]| self.enlarging(output, [latents[2], latents[3]]);
        for (given_up, what) in [
            (placement.text_on_cpu, "the text encoder does not fit in the GPU's memory: it computes on the CPU"),
            (
                placement.offload,
                "the transformer does not fit in the GPU's memory: its blocks are copied there one by one",
            ),
        ] {
            notices.extend(given_up.then(|| what.to_string()));
        }
        let memory = self.memory(&plan, &placement, tile, beside)?;
        notices.extend(memory.warning());
        Ok(Planned { plan, placement, memory, time: None, tile, notices })
    }

    /// Returns the placement in which everything fits into the GPU's memory.
    fn fitted(&self, plan: &Plan, tile: Option<usize>) -> Result<Placement> {
        let Some(room) = self.placement.gpu_memory else { return Ok(self.placement.clone()) };
        let demand = Demand::of(plan, plan.latent_shape, tile, self.threads);
        let parts = MemoryPlan::on_gpu(self.family.memory(self.model, self.placement, &demand)?, room).parts;
        let (offload, text_on_cpu) = (parts.denoise.total() > room, parts.text.total() > room);
        Ok(Placement { offload, text_on_cpu, ..self.placement.clone() })
    }

    /// Returns the memory plan and, if it does not fit, changes with which it would.
    /// Decoding takes the bytes `beside` of latents of a shape, too.
    fn memory(
        &self,
        plan: &Plan,
        placement: &Placement,
        tile: Option<usize>,
        beside: impl Fn([usize; 4]) -> Result<u64>,
    ) -> Result<MemoryPlan> {
        let needed = |placement: &Placement, latents: [usize; 4]| {
            let demand = Demand::of(plan, latents, tile, self.threads);
            let mut parts = self.family.memory(self.model, placement, &demand)?;
            parts.decode.working += beside(latents)?;
            if placement.text_on_cpu {
                parts.text = PartMemory::default();
            }
            if let Some(room) = placement.gpu_memory {
                return Ok(MemoryPlan::on_gpu(parts, room));
            }
            let available = if placement.device.is_cpu() { machine::available() } else { None };
            Ok(MemoryPlan::new(parts, self.model.bytes_in_program(), self.idle, available))
        };
        let mut memory = needed(placement, plan.latent_shape)?;
        if !memory.fits() {
            let resident = Placement { offload: false, ..placement.clone() };
            memory.would_fit = self.would_fit(&resident, plan.latent_shape, needed)?;
        }
        Ok(memory)
    }

    /// Returns, of each kind of change to the request, the smallest with which the memory that is `needed` fits: first those of the
    /// arithmetic, then shorter and smaller clips, by themselves or with the least arithmetic.
    fn would_fit(
        &self,
        placement: &Placement,
        [c, f, h, w]: [usize; 4],
        needed: impl Fn(&Placement, [usize; 4]) -> Result<MemoryPlan>,
    ) -> Result<Vec<String>> {
        let (format, [_, ph, pw]) = (&self.limits.latent_format, self.limits.patch);
        let less = |size: usize, eighths: usize, patch: usize| (size * eighths / 8 / patch).max(1) * patch;
        let shorter = [4, 2, 1].map(|eighths| {
            let frames = (f * eighths).div_ceil(8);
            (format!("{} frames", format.pixel_frames(frames)), [c, frames, h, w])
        });
        let smaller = [6, 4, 2].map(|eighths| {
            let (h, w) = (less(h, eighths, ph), less(w, eighths, pw));
            let factor = format.spatial_factor;
            (format!("{}×{}", w * factor, h * factor), [c, f, h, w])
        });
        let arithmetic = less_arithmetic(placement);
        let least = arithmetic.last().cloned().unwrap_or_else(|| (String::new(), placement.clone()));
        let own = (String::new(), placement.clone());
        let whole = [(String::new(), [c, f, h, w])];
        let mut found = Vec::new();
        let ends = [own, least];
        let mut find = |arithmetic: &[(String, Placement)], shapes: &[(String, [usize; 4])]| {
            for (options, placement) in arithmetic {
                for (shape, latents) in shapes {
                    let memory = needed(placement, *latents)?;
                    if memory.fits() {
                        let changes =
                            [options.as_str(), shape.as_str()].into_iter().filter(|change| !change.is_empty());
                        let changes = changes.collect::<Vec<_>>().join(" and ");
                        found.push(format!("{changes} ({})", memory::gb(memory.peak)));
                        return Ok(());
                    }
                }
            }
            Ok::<_, crate::Error>(())
        };
        find(&arithmetic, &whole)?;
        find(&ends, &shorter)?;
        find(&ends, &smaller)?;
        Ok(found)
    }

    /// Returns the bytes that enlarging frames of `[H, W]` latent pixels takes beside the decoder.
    fn enlarging(&self, output: &Output, [h, w]: [usize; 2]) -> Result<u64> {
        let factor = self.limits.latent_format.spatial_factor;
        enlarging_bytes(output, (w * factor, h * factor), self.placement, self.threads).map(|bytes| bytes as u64)
    }

    /// Returns the latent pixels per side of the tiles that frames of `[H, W]` latent pixels are decoded in: those of
    /// `output`, else the largest that fit.
    pub(crate) fn tile(&self, output: &Output, size: [usize; 2]) -> Result<Option<usize>> {
        let (placement, threads) = (self.placement, self.threads);
        if output.tile.is_some() {
            return Ok(output.tile);
        }
        let (available, threads) = match (placement.gpu_memory, placement.device.is_cpu()) {
            (Some(room), _) => (Some(room), 0),
            // What is resident since the model was loaded is kept of earlier runs, and gives way.
            (None, true) => {
                let kept = machine::resident().zip(self.idle).map_or(0, |(now, idle)| now.saturating_sub(idle));
                (machine::available().map(|free| free + kept), threads)
            }
            (None, false) => (None, threads),
        };
        let Some(available) = available else { return Ok(None) };
        let available = available.saturating_sub(self.enlarging(output, size)?);
        self.family.tile_that_fits(self.model, placement, size, threads, available / 10 * 9)
    }
}

/// Arithmetic with which the networks take less memory, each with the placement that it makes, from the least change on.
fn less_arithmetic(placement: &Placement) -> Vec<(String, Placement)> {
    let with = |options: &str, dtype, quant| (options.to_string(), Placement { dtype, quant, ..placement.clone() });
    let (dtype, quant) = (placement.dtype, placement.quant);
    let (is_wide, is_whole) = (dtype == DType::F32, quant.is_none() && !placement.device.is_metal());
    let mut changes = Vec::new();
    changes.extend(is_wide.then(|| with("bf16", DType::BF16, quant)));
    changes.extend(is_whole.then(|| with("int8", dtype, Some(Quant::Int8))));
    changes.extend((is_wide && is_whole).then(|| with("bf16 and int8", DType::BF16, Some(Quant::Int8))));
    changes
}

/// Returns the notice of a clip that is decoded in tiles because of its size.
pub(crate) fn in_tiles(side: usize) -> String {
    format!("whole frames do not fit in memory: they are decoded in tiles of {side}×{side} latent pixels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;
    use crate::plan::memory::PartsMemory;
    use crate::{LoadOptions, Request};
    use kinora_checkpoint::Quant;

    /// As if the CPU were a GPU with so much memory: planning does not ask which it is.
    #[test]
    fn parts_that_a_gpu_has_no_room_for_are_streamed_or_compute_on_the_cpu() {
        let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
        let mut pipeline = Pipeline::load(&options).expect("the embedded model");
        let request = Request { prompt: "a red ball".into(), ..Request::default() };
        let mut plan = |room: Option<u64>, quant| {
            pipeline.placement = Placement { gpu_memory: room, quant, ..pipeline.placement.clone() };
            pipeline.plan(&request).expect("a prompt is enough")
        };
        let all = plan(Some(1 << 30), None);
        assert!(
            !all.placement.offload && !all.placement.text_on_cpu && all.tile.is_none() && all.memory.fits(),
            "{all:?}"
        );
        assert_eq!(all.memory.process, 0, "the process does not count");
        let PartsMemory { text, denoise, .. } = all.memory.parts;
        assert!(text.total() < denoise.total());

        let less = plan(Some(denoise.total() - 1), None);
        assert!(less.placement.offload && !less.placement.text_on_cpu);
        assert!(less.memory.parts.denoise.weights < denoise.weights);
        assert_eq!(less.memory.parts.denoise.working, denoise.working);
        assert!(less.notices.iter().any(|notice| notice.contains("one by one")), "{:?}", less.notices);

        let least = plan(Some(text.total() - 1), None);
        assert!(least.placement.offload && least.placement.text_on_cpu);
        assert_eq!(least.memory.parts.text, PartMemory::default());

        let quantised = plan(Some(1 << 30), Some(Quant::Int8)).memory.parts.denoise;
        assert!(quantised.weights < denoise.weights);
        let streamed = plan(Some(quantised.total() - 1), Some(Quant::Int8));
        assert!(
            streamed.placement.offload && streamed.memory.parts.denoise.weights < quantised.weights,
            "{streamed:?}"
        );
        let cpu = plan(None, None);
        assert!(!cpu.placement.offload && !cpu.placement.text_on_cpu && cpu.memory.process > 0);
    }
}
