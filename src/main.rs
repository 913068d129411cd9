//! The program; everything is in the library.

/// Plans are many small pieces: with it a fleet is planned and checked in two thirds of the processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sectile::cli::main()
}
