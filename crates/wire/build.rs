//! Compiles the protocol with protox: no protoc is needed on any machine. Writes as well what the protocol promises, one
//! line a field, for the test that holds it against what was published.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told where to write, and writes there"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/weir/agent/v1/agent.proto"], ["proto"])?;
    let mut surface = String::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let stream = |yes: Option<bool>| if yes == Some(true) { "stream " } else { "" };
                writeln!(
                    surface,
                    "rpc {}.{}/{}: {}{} -> {}{}",
                    file.package(),
                    service.name(),
                    method.name(),
                    stream(method.client_streaming),
                    method.input_type(),
                    stream(method.server_streaming),
                    method.output_type(),
                )?;
            }
        }
        for message in &file.message_type {
            for field in &message.field {
                let choice = field
                    .oneof_index
                    .and_then(|i| message.oneof_decl.get(usize::try_from(i).ok()?))
                    .map(|choice| format!(" oneof {}", choice.name()))
                    .unwrap_or_default();
                writeln!(
                    surface,
                    "{}.{} = {}: {:?} {:?}{}{choice}",
                    message.name(),
                    field.name(),
                    field.number(),
                    field.label(),
                    field.r#type(),
                    field
                        .type_name
                        .as_deref()
                        .map(|name| format!(" {name}"))
                        .unwrap_or_default(),
                )?;
            }
        }
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("agent.v1.binpb"), files.encode_to_vec())?;
    std::fs::write(out.join("agent.v1.surface.txt"), surface)?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
