//! `/init` of stage one. Runs as PID 1 only, and never ends there.

use std::path::Path;
use std::process::ExitCode;

use stage1_loader::boot::Boot;
use stage1_loader::console::Console;
use stage1_loader::{VERSION, panic};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot();
    }
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("stage1-loader {VERSION}");
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "stage1-loader {VERSION} runs as the first process of a stage-one boot, not here: it would \
         set up this machine's network and replace its system"
    );
    ExitCode::from(3)
}

/// Does not return: what stands after the boot is the panic hook.
fn boot() -> ! {
    let console = Console::new();
    panic::install(console.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(Boot::new(Path::new("/"), console).run()),
        Err(error) => panic::stop(&console, "starting the event loop", &error),
    }
}
