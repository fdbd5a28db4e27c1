//! `kinora models` and `kinora pull`.

use crate::args::{ModelsArgs, PullArgs};
use crate::report;
use kinora::{Manifest, Result, hub};

/// Lists the known models.
pub fn list(args: &ModelsArgs) -> Result<()> {
    let known = Manifest::known();
    let here = |manifest: &Manifest| manifest.repository.as_deref().and_then(hub::cached);
    if args.json {
        let rows: Vec<_> = known
            .iter()
            .map(|m| {
                let (place, repository) = (here(m), &m.repository);
                serde_json::json!({
                    "name": m.name, "title": m.title, "licence": m.licence, "parameters": m.parameters,
                    "repository": repository, "here": place,
                })
            })
            .collect();
        report::line(&serde_json::to_string_pretty(&rows).expect("plain data"));
        return Ok(());
    }
    report::line(&format!("{:18} {:>12} {:>14}  {:11} {:5} {}", "name", "transformer", "all, in bf16", "licence", "here", "what"));
    for manifest in &known {
        report::line(&format!(
            "{:18} {:>10.1} B {:>14}  {:11} {:5} {}",
            manifest.name,
            manifest.parameters.transformer as f64 / 1e9,
            report::bytes(2 * manifest.parameters.total()),
            manifest.licence,
            if here(manifest).is_some() { "yes" } else { "no" },
            manifest.title
        ));
    }
    Ok(())
}

/// Downloads a known model.
pub fn pull(args: &PullArgs) -> Result<()> {
    let place = hub::pull(&args.name, |_| std::ops::ControlFlow::Continue(()))?;
    report::line(&place.display().to_string());
    Ok(())
}
