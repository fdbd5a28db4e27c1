//! `--dtype auto` and `--quant auto` measure, say what they took, and record it like a setting that was given.

use kinora_tests::{Run, kinora, same_bits, video};

fn succeeded(run: Run) -> String {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run.stdout + &run.stderr
}

#[test]
fn what_auto_took_is_said_and_recorded() {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = |arguments: &str| succeeded(kinora(&arguments.split(' ').collect::<Vec<_>>(), scratch.path()));
    let clip = |name: &str| scratch.path().join(format!("{name}.safetensors"));
    let small = "--device cpu --width 64 --height 64 --frames 5 --seed 1 --steps 2";
    let said = run(&format!("generate ball {small} --dtype auto --quant auto -o auto.safetensors"));
    let recipe = kinora::Recipe::read(clip("auto")).expect("a recipe");
    assert!(["f32", "bf16"].contains(&recipe.dtype.as_str()), "{}", recipe.dtype);
    assert!([None, Some("int8")].contains(&recipe.quant.as_deref()), "{:?}", recipe.quant);
    let took = recipe.quant.as_ref().map_or(recipe.dtype.clone(), |quant| format!("{quant} and {}", recipe.dtype));
    assert!(said.contains(&format!("{took} is taken: this machine does ")), "{said}");

    let quant = recipe.quant.as_ref().map_or(String::new(), |quant| format!(" --quant {quant}"));
    run(&format!("generate ball {small} --dtype {}{quant} -o given.safetensors", recipe.dtype));
    let said = run("rerun auto.safetensors --device cpu -o again.safetensors");
    assert!(!said.contains("this machine does"), "{said}");
    for other in ["given", "again"] {
        assert!(same_bits(&video(&clip("auto")), &video(&clip(other))), "{other}");
    }
}

#[test]
fn nothing_is_measured_where_nothing_is_asked() {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = kinora(&["plan", "a red ball", "--device", "cpu"], scratch.path());
    assert!(!succeeded(run).contains("this machine does"));
}
