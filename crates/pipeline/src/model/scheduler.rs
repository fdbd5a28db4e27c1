//! [`Scheduler`]: the sampler and the shift that the scheduler's configuration of a diffusers directory asks for.
//!
//! The settings and their defaults are those of diffusers 0.42
//! (<https://github.com/huggingface/diffusers/tree/v0.42.1/src/diffusers/schedulers>). A scheduler maps to a sampler only
//! if both compute the same numbers; otherwise the reason names the setting that changes them.

use kinora_sampler::{DynamicShift, SamplerKind};
use serde_json::Value;

/// The scheduler of a model directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scheduler {
    /// The sampler that computes the same numbers, or the reason why there is none.
    pub sampler: Result<SamplerKind, String>,
    /// The shift of the schedule.
    pub shift: Option<f64>,
    /// The shift of a schedule that depends on the clip, which then replaces the other one.
    pub dynamic_shift: Option<DynamicShift>,
    /// The noise level that the schedule is stretched to.
    pub terminal: Option<f64>,
}

const EULER: &str = "FlowMatchEulerDiscreteScheduler";

/// A setting of a scheduler, the value that it must have, and its default.
type Setting = (&'static str, Value, Value);

impl Scheduler {
    /// Reads `scheduler_config.json`.
    pub(crate) fn from_config(config: &Value) -> Self {
        let shift = config["flow_shift"].as_f64().or(config["shift"].as_f64());
        let terminal = config["shift_terminal"].as_f64().filter(|terminal| *terminal != 0.0);
        Self { sampler: sampler(config), shift, dynamic_shift: dynamic_shift(config), terminal }
    }

    /// The same, for a family whose schedules are those of its samplers and nothing more.
    pub(crate) fn plain(self) -> Self {
        let more = match self {
            Self { terminal: Some(terminal), .. } => format!("shift_terminal {terminal}, not null"),
            Self { dynamic_shift: Some(_), .. } => "use_dynamic_shifting true, not false".to_string(),
            plain => return plain,
        };
        let reason = self.sampler.and(Err(format!("its {EULER} has {more}")));
        Self { sampler: reason, shift: self.shift, dynamic_shift: None, terminal: None }
    }
}

fn dynamic_shift(config: &Value) -> Option<DynamicShift> {
    let number = |name: &str, default: f64| config[name].as_f64().unwrap_or(default);
    let tokens = |name: &str, default: f64| number(name, default) as usize;
    (config["use_dynamic_shifting"] == true).then(|| DynamicShift {
        tokens: [tokens("base_image_seq_len", 256.0), tokens("max_image_seq_len", 4096.0)],
        log: [number("base_shift", 0.5), number("max_shift", 1.15)],
    })
}

fn sampler(config: &Value) -> Result<SamplerKind, String> {
    let class = config["_class_name"].as_str().unwrap_or_default();
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let (kind, settings) = match class {
        // Where `solver_type` is another solver's, diffusers takes the default too.
        "UniPCMultistepScheduler" if text("solver_type") == "bh1" => (SamplerKind::UniPcBh1, unipc()),
        "UniPCMultistepScheduler" => (SamplerKind::UniPc, unipc()),
        "DPMSolverMultistepScheduler" => (SamplerKind::DpmPp2m, dpm_solver()),
        EULER if config["stochastic_sampling"] == true => (SamplerKind::Lcm, flow_match()),
        EULER if config["use_dynamic_shifting"] == true => (SamplerKind::Euler, dynamic_flow_match()),
        EULER => (SamplerKind::Euler, stretched_flow_match()),
        "FlowMatchHeunDiscreteScheduler" => (SamplerKind::Heun, vec![train_timesteps()]),
        "FlowMatchLCMScheduler" => (SamplerKind::Lcm, flow_match_lcm()),
        "" => return Err("it names no scheduler".into()),
        other => return Err(format!("its scheduler is `{other}`")),
    };
    for (name, needed, default) in settings {
        let found = config.get(name).unwrap_or(&default);
        if !same(found, &needed) {
            return Err(format!("its {class} has {name} {found}, not {needed}"));
        }
    }
    Ok(kind)
}

/// Whether two values are equal; 1000 and 1000.0 are.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64())
}

fn train_timesteps() -> Setting {
    ("num_train_timesteps", 1000.into(), 1000.into())
}

fn off(name: &'static str) -> Setting {
    (name, false.into(), false.into())
}

fn unipc() -> Vec<Setting> {
    let mut settings = multistep();
    settings.extend([
        ("predict_x0", true.into(), true.into()),
        ("disable_corrector", Value::Array(Vec::new()), Value::Array(Vec::new())),
        ("solver_p", Value::Null, Value::Null),
        ("shift_terminal", Value::Null, Value::Null),
    ]);
    settings
}

fn dpm_solver() -> Vec<Setting> {
    let mut settings = multistep();
    settings.extend([
        ("algorithm_type", "dpmsolver++".into(), "dpmsolver++".into()),
        ("solver_type", "midpoint".into(), "midpoint".into()),
        ("variance_type", Value::Null, Value::Null),
        off("euler_at_final"),
        off("use_lu_lambdas"),
    ]);
    settings
}

/// The settings of both multistep solvers.
fn multistep() -> Vec<Setting> {
    vec![
        ("prediction_type", "flow_prediction".into(), "epsilon".into()),
        ("use_flow_sigmas", true.into(), false.into()),
        ("solver_order", 2.into(), 2.into()),
        ("lower_order_final", true.into(), true.into()),
        ("final_sigmas_type", "zero".into(), "zero".into()),
        train_timesteps(),
        off("thresholding"),
        off("use_karras_sigmas"),
        off("use_exponential_sigmas"),
        off("use_beta_sigmas"),
        off("use_dynamic_shifting"),
    ]
}

fn flow_match() -> Vec<Setting> {
    let mut settings = vec![("shift_terminal", Value::Null, Value::Null), off("use_dynamic_shifting")];
    settings.extend(stretched_flow_match());
    settings
}

/// The settings of one whose schedule depends on the clip, and may be stretched.
fn dynamic_flow_match() -> Vec<Setting> {
    let mut settings = stretched_flow_match();
    settings.push(("time_shift_type", "exponential".into(), "exponential".into()));
    settings
}

/// The settings of one whose schedule may be stretched.
fn stretched_flow_match() -> Vec<Setting> {
    vec![
        train_timesteps(),
        off("invert_sigmas"),
        off("use_karras_sigmas"),
        off("use_exponential_sigmas"),
        off("use_beta_sigmas"),
    ]
}

fn flow_match_lcm() -> Vec<Setting> {
    let mut settings = flow_match();
    settings.push(("scale_factors", Value::Null, Value::Null));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schedulers_map_to_the_samplers_that_compute_the_same() {
        let kind = |config: Value| Scheduler::from_config(&config).plain().sampler.map(SamplerKind::name);
        let flow = |class: &str, more: Value| {
            let mut config = json!({"_class_name": class, "prediction_type": "flow_prediction",
                "use_flow_sigmas": true, "num_train_timesteps": 1000.0});
            config.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
            config
        };
        let unipc = "UniPCMultistepScheduler";
        let dpm = "DPMSolverMultistepScheduler";
        assert_eq!(kind(flow(unipc, json!({}))), Ok("unipc"));
        assert_eq!(kind(flow(unipc, json!({"solver_type": "bh2"}))), Ok("unipc"));
        assert_eq!(kind(flow(unipc, json!({"solver_type": "bh1"}))), Ok("unipc-bh1"));
        assert_eq!(kind(flow(dpm, json!({}))), Ok("dpm++2m"));
        let euler = "FlowMatchEulerDiscreteScheduler";
        assert_eq!(kind(json!({"_class_name": euler, "shift": 3.0})), Ok("euler"));
        assert_eq!(kind(json!({"_class_name": euler, "stochastic_sampling": true})), Ok("lcm"));
        assert_eq!(kind(json!({"_class_name": "FlowMatchHeunDiscreteScheduler"})), Ok("heun"));
        assert_eq!(kind(json!({"_class_name": "FlowMatchLCMScheduler"})), Ok("lcm"));

        for (config, part) in [
            (json!({"_class_name": unipc}), "prediction_type \"epsilon\""),
            (flow(unipc, json!({"solver_order": 3})), "solver_order 3, not 2"),
            (flow(unipc, json!({"use_karras_sigmas": true})), "use_karras_sigmas true"),
            (flow(unipc, json!({"disable_corrector": [0]})), "disable_corrector [0]"),
            (flow(unipc, json!({"use_flow_sigmas": false})), "use_flow_sigmas false"),
            (flow(dpm, json!({"algorithm_type": "sde-dpmsolver++"})), "algorithm_type \"sde-dpmsolver++\""),
            (json!({"_class_name": euler, "use_dynamic_shifting": true}), "use_dynamic_shifting true, not false"),
            (json!({"_class_name": euler, "shift_terminal": 0.1}), "shift_terminal 0.1, not null"),
            (json!({"_class_name": euler, "stochastic_sampling": true, "shift_terminal": 0.1}), "shift_terminal 0.1"),
            (
                json!({"_class_name": euler, "use_dynamic_shifting": true, "time_shift_type": "linear"}),
                "time_shift_type \"linear\", not \"exponential\"",
            ),
            (json!({"_class_name": "FlowMatchHeunDiscreteScheduler", "num_train_timesteps": 500}), "500, not 1000"),
            (json!({"_class_name": "DDIMScheduler"}), "its scheduler is `DDIMScheduler`"),
            (json!({}), "names no scheduler"),
        ] {
            let reason = kind(config.clone()).expect_err("it computes something else");
            assert!(reason.contains(part), "{config}: {reason}");
        }
    }

    #[test]
    fn a_schedule_that_depends_on_the_clip_is_read() {
        let config = json!({"_class_name": EULER, "use_dynamic_shifting": true, "base_shift": 0.95, "max_shift": 2.05,
            "base_image_seq_len": 1024, "max_image_seq_len": 4096, "shift_terminal": 0.1});
        let scheduler = Scheduler::from_config(&config);
        assert_eq!(scheduler.sampler, Ok(SamplerKind::Euler));
        let shift = DynamicShift { tokens: [1024, 4096], log: [0.95, 2.05] };
        assert_eq!((scheduler.dynamic_shift, scheduler.terminal), (Some(shift), Some(0.1)));
        let plain = Scheduler::from_config(&json!({"_class_name": EULER, "shift": 3, "shift_terminal": 0}));
        assert_eq!((plain.dynamic_shift, plain.terminal), (None, None));
        assert_eq!(plain.clone().plain(), plain);
    }

    #[test]
    fn both_names_of_the_shift_are_read() {
        assert_eq!(Scheduler::from_config(&json!({"flow_shift": 5.0})).shift, Some(5.0));
        assert_eq!(Scheduler::from_config(&json!({"shift": 3})).shift, Some(3.0));
        assert_eq!(Scheduler::from_config(&json!({})).shift, None);
    }
}
