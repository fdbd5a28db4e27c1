//! `kinora` hands over to `kinora-cuda`: when, with what, and what it says where it cannot. No CUDA library is needed:
//! small stubs stand for them, and a script for the program. With the feature `cuda`, `kinora` is linked to the real ones.
#![cfg(all(target_os = "linux", not(target_env = "musl"), not(feature = "cuda")))]

use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use kinora_tests::{CUDA_BINARY, Run, binary};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const LIBRARIES: [&str; 5] =
    ["libcuda.so.1", "libcudart.so.13", "libcurand.so.10", "libcublasLt.so.13", "libcublas.so.13"];
/// Keeps its arguments, one a line, and has an exit status of its own.
const SCRIPT: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" > handed.txt\nexit 7\n";

/// A folder with `lib/` on the library path, in which each library is one that loads, or a file that is none and hides
/// the real one.
struct Machine(Sandbox);

impl Machine {
    fn new(usable: &[&str]) -> Self {
        let machine = Self(Sandbox::new("wan21_t2v"));
        fs::create_dir(machine.0.path("lib")).expect("a folder");
        for name in LIBRARIES {
            machine.0.write(&format!("lib/{name}"), "");
        }
        machine.0.write("stub.c", "int stub(void) { return 0; }\n");
        for name in usable {
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-o"]).arg(machine.0.path("lib").join(name)).arg(machine.0.path("stub.c"));
            assert!(cc.status().expect("the compiler that links Rust starts").success());
        }
        machine
    }

    /// Puts the script there, as a program.
    fn script(self, name: &str) -> Self {
        fs::create_dir_all(self.0.path(name).parent().expect("a folder")).expect("a folder");
        self.0.write(name, SCRIPT);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.0.path(name), executable).expect("permissions are changed");
        self
    }

    /// What `command` prints with the libraries of this machine.
    fn run(&self, mut command: Command) -> Run {
        Run::of(&command.env("LD_LIBRARY_PATH", self.0.path("lib")).output().expect("the kinora binary starts"))
    }

    /// `kinora generate` with `cuda_binary` as its `kinora-cuda`.
    fn generate(&self, cuda_binary: impl AsRef<Path>, more: &[&str]) -> Run {
        let mut command = self.0.command(&Sandbox::generate_arguments(more));
        command.env(CUDA_BINARY, cuda_binary.as_ref());
        self.run(command)
    }

    /// The arguments that the script got.
    fn handed(&self) -> Option<String> {
        fs::read_to_string(self.0.path("handed.txt")).ok()
    }

    fn made_a_clip(&self, run: &Run) -> bool {
        run.status == Some(0) && self.0.path("clip.safetensors").is_file() && self.handed().is_none()
    }
}

#[test]
fn arguments_and_exit_status_are_handed_over() {
    let machine = Machine::new(&LIBRARIES).script("kinora-cuda");
    let program = machine.0.path("kinora-cuda");
    for more in [&[][..], &["--device", "cuda"], &["--device", "cuda:1", "--negative-prompt", "zwei  Wörter, 'quoted'"]]
    {
        let run = machine.generate(&program, more);
        assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (Some(7), "", ""));
        let handed = machine.handed().expect("the script ran");
        assert_eq!(handed.lines().collect::<Vec<_>>(), Sandbox::generate_arguments(more));
        fs::remove_file(machine.0.path("handed.txt")).expect("the script ran");
    }
}

#[test]
fn other_devices_and_commands_stay_here() {
    let machine = Machine::new(&LIBRARIES).script("kinora-cuda");
    let program = machine.0.path("kinora-cuda");
    let run = machine.generate(&program, &["--device", "cpu"]);
    assert!(machine.made_a_clip(&run), "{run:#?}");
    let run = machine.generate(&program, &["--device", "tpu"]);
    assert!(run.failure().contains("there is no device `tpu`"));
    let mut show = machine.0.command(&["show", "clip.safetensors"]);
    show.env(CUDA_BINARY, &program);
    let run = machine.run(show);
    assert!(machine.made_a_clip(&run), "{run:#?}");
}

#[test]
fn the_program_beside_this_one_is_found() {
    let machine = Machine::new(&LIBRARIES).script("bin/kinora-cuda");
    let copy = machine.0.path("bin/kinora");
    fs::copy(binary(), &copy).expect("a copy");
    let mut command = Command::new(copy);
    command.args(["bench", "--random", "no-such-model"]).current_dir(machine.0.path(".")).env_remove(CUDA_BINARY);
    let run = machine.run(command);
    assert_eq!(
        (run.status, machine.handed().as_deref()),
        (Some(7), Some("bench\n--random\nno-such-model\n")),
        "{run:#?}"
    );
}

#[test]
fn without_a_usable_program_auto_is_the_cpu() {
    let machine = Machine::new(&LIBRARIES);
    machine.0.write("not-executable", SCRIPT);
    for program in ["".into(), machine.0.path("nowhere"), machine.0.path("not-executable"), binary()] {
        let run = machine.generate(&program, &["--json"]);
        assert!(machine.made_a_clip(&run) && run.stderr.is_empty(), "{}: {run:#?}", program.display());
        fs::remove_file(machine.0.path("clip.safetensors")).expect("a clip");
    }
    for usable in [&[][..], &LIBRARIES[..1], &LIBRARIES[..4]] {
        let machine = Machine::new(usable).script("kinora-cuda");
        let run = machine.generate(machine.0.path("kinora-cuda"), &["--json"]);
        assert!(machine.made_a_clip(&run) && run.stderr.is_empty(), "{usable:?}: {run:#?}");
    }
}

#[test]
fn cuda_that_cannot_be_had() {
    let mut t = Transcript::default();
    let machine = Machine::new(&LIBRARIES);
    machine.0.write("not-executable", SCRIPT);
    let mut keep = |title: &str, machine: &Machine, program: &Path| {
        let run = machine.generate(program, &["--device", "cuda"]);
        assert!(!machine.0.path("clip.safetensors").exists(), "{title}");
        t.keep(title, &run);
        let folder = machine.0.path("");
        t.0 = t.0.replace(&*folder.to_string_lossy(), "[folder]/");
    };
    keep("no program", &machine, Path::new(""));
    keep("no program where it is said to be", &machine, &machine.0.path("nowhere"));
    keep("a program that is none", &machine, &machine.0.path("not-executable"));
    keep("a program without CUDA", &machine, &binary());
    for (title, usable) in [("no driver", &[][..]), ("a driver alone", &LIBRARIES[..1]), ("no cuBLAS", &LIBRARIES[..4])]
    {
        let machine = Machine::new(usable).script("kinora-cuda");
        keep(title, &machine, &machine.0.path("kinora-cuda"));
        assert_eq!(machine.handed(), None, "{title}");
    }
    insta::assert_snapshot!(t.0);
}
