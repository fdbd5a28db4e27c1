//! What a plan needs of memory, and what is done where there is too little.

use super::memory::{self, Demand, MemoryPlan, PartMemory};
use super::placement::Placement;
use crate::Pipeline;
use crate::Result;
use crate::plan::Plan;
use crate::request::output::Output;
use candle_core::DType;

impl Pipeline {
    /// Lets wait in the host's memory what the GPU has no room for.
    pub(crate) fn fit(&self, plan: &mut Plan) -> Result<()> {
        let Some(room) = self.placement.gpu_memory else { return Ok(()) };
        let demand = Demand::of(plan, self.threads.current_num_threads());
        let parts = MemoryPlan::on_gpu(self.family.memory(&self.model, &self.placement, &demand)?, room).parts;
        plan.text_on_cpu = parts.text.total() > room;
        plan.offload = parts.denoise.total() > room;
        for (waits, what) in [
            (plan.text_on_cpu, "the text encoder does not fit in the GPU's memory: it computes on the CPU"),
            (plan.offload, "the transformer does not fit in the GPU's memory: its blocks are copied there one by one"),
        ] {
            plan.notices.extend(waits.then(|| what.to_string()));
        }
        Ok(())
    }

    /// What `plan` will need, and what would fit where that is too much.
    pub(crate) fn memory(&self, plan: &Plan) -> Result<MemoryPlan> {
        let needed = |placement: &Placement, latents: [usize; 4], tile: Option<usize>| {
            let demand = Demand { latents, tile, ..Demand::of(plan, self.threads.current_num_threads()) };
            let mut parts = self.family.memory(&self.model, placement, &demand)?;
            if plan.text_on_cpu {
                parts.text = PartMemory::default();
            }
            if let Some(room) = placement.gpu_memory {
                return Ok(MemoryPlan::on_gpu(parts, room));
            }
            let available = if placement.device.is_cpu() { memory::available() } else { None };
            Ok(MemoryPlan::new(parts, self.model.bytes_in_program(), available))
        };
        let mut memory = needed(&self.placement.planned(plan), plan.latent_shape, plan.tile)?;
        if !memory.fits() {
            memory.would_fit = self.would_fit(plan.latent_shape, plan.tile, needed)?;
        }
        Ok(memory)
    }

    /// Of each kind of change to the command the smallest with which `needed` fits.
    fn would_fit(
        &self,
        [c, f, h, w]: [usize; 4],
        tile: Option<usize>,
        needed: impl Fn(&Placement, [usize; 4], Option<usize>) -> Result<MemoryPlan>,
    ) -> Result<Vec<String>> {
        let (format, [_, ph, pw]) = (&self.limits.latent_format, self.limits.patch);
        let bf16 = Placement { dtype: DType::BF16, ..self.placement.clone() };
        let less = |size: usize, eighths: usize, patch: usize| (size * eighths / 8 / patch).max(1) * patch;
        let shorter = [4, 2, 1].map(|eighths| {
            let frames = (f * eighths).div_ceil(8);
            (format!("--frames {}", format.pixel_frames(frames)), &self.placement, [c, frames, h, w])
        });
        let smaller = [6, 4, 2].map(|eighths| {
            let (h, w) = (less(h, eighths, ph), less(w, eighths, pw));
            let factor = format.spatial_factor;
            (format!("--width {} --height {}", w * factor, h * factor), &self.placement, [c, f, h, w])
        });
        let mut found = Vec::new();
        for kind in [&[("--dtype bf16".to_string(), &bf16, [c, f, h, w])][..], &shorter, &smaller] {
            for (change, placement, latents) in kind {
                let memory = needed(placement, *latents, tile)?;
                if memory.fits() {
                    found.push(format!("{change} ({})", memory::gb(memory.peak)));
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Latent pixels per side of the tiles that frames of `h × w` are decoded in: what is asked for, else what fits.
    pub(crate) fn tile(&self, output: &Output, size: [usize; 2]) -> Result<Option<usize>> {
        let (placement, threads) = (&self.placement, self.threads.current_num_threads());
        if output.tile.is_some() {
            return Ok(output.tile);
        }
        let (available, threads) = match (placement.gpu_memory, placement.device.is_cpu()) {
            (Some(room), _) => (Some(room), 0),
            (None, true) => (memory::available(), threads),
            (None, false) => (None, threads),
        };
        let Some(available) = available else { return Ok(None) };
        self.family.tile_that_fits(&self.model, placement, size, threads, available / 10 * 9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::memory::PartsMemory;
    use crate::{LoadOptions, Request};
    use kinora_checkpoint::Quant;

    /// As if the CPU were a GPU with so much memory: what is planned does not ask which it is.
    #[test]
    fn what_a_gpu_has_no_room_for_waits_in_the_hosts_memory() {
        let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
        let mut pipeline = Pipeline::load(&options).expect("the embedded model");
        let request = Request { prompt: "a red ball".into(), ..Request::default() };
        let mut plan = |room: Option<u64>, quant| {
            pipeline.placement = Placement { gpu_memory: room, quant, ..pipeline.placement.clone() };
            pipeline.plan(&request).expect("a prompt is enough")
        };
        let all = plan(Some(1 << 30), None);
        assert!(!all.offload && !all.text_on_cpu && all.tile.is_none() && all.memory.fits(), "{all:?}");
        assert_eq!(all.memory.process, 0, "the process does not count");
        let PartsMemory { text, denoise, .. } = all.memory.parts;
        assert!(text.total() < denoise.total());

        let less = plan(Some(denoise.total() - 1), None);
        assert!(less.offload && !less.text_on_cpu);
        assert!(less.memory.parts.denoise.weights < denoise.weights);
        assert_eq!(less.memory.parts.denoise.working, denoise.working);
        assert!(less.notices.iter().any(|notice| notice.contains("one by one")), "{:?}", less.notices);

        let least = plan(Some(text.total() - 1), None);
        assert!(least.offload && least.text_on_cpu);
        assert_eq!(least.memory.parts.text, PartMemory::default());

        let rounded = plan(Some(1 << 30), Some(Quant::Int8)).memory.parts.denoise;
        assert!(rounded.weights < denoise.weights);
        let waiting = plan(Some(rounded.total() - 1), Some(Quant::Int8));
        assert!(waiting.offload && waiting.memory.parts.denoise.weights < rounded.weights, "{waiting:?}");
        let cpu = plan(None, None);
        assert!(!cpu.offload && !cpu.text_on_cpu && cpu.memory.process > 0);
    }
}
