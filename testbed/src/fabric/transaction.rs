//! Owns the use of a chaincode that a channel has: invoke and query, by the stock CLI. All releases have the same commands for it.

use serde_json::json;

use super::Fabric;
use super::cli::{CliError, CliOutput};
use super::layout::{CHANNEL, owned};

impl Fabric {
    /// Has the peer run a function and waits until the transaction is in a block.
    pub fn invoke(
        &self,
        peer: usize,
        chaincode: &str,
        arguments: &[&str],
    ) -> Result<CliOutput, CliError> {
        let mut order = call("invoke", chaincode, arguments);
        order.extend(self.layout().to_orderer());
        order.extend(self.layout().to_endorser(peer));
        order.push("--waitForEvent".to_owned());
        self.layout().cli(peer, &order)
    }

    /// Has the peer run a function and returns its answer; nothing is written to the ledger.
    pub fn query(
        &self,
        peer: usize,
        chaincode: &str,
        arguments: &[&str],
    ) -> Result<String, CliError> {
        let order = call("query", chaincode, arguments);
        let output = self.layout().cli(peer, &order)?;
        Ok(output.stdout.trim_end().to_owned())
    }
}

fn call(verb: &str, chaincode: &str, arguments: &[&str]) -> Vec<String> {
    let call = json!({ "Args": arguments }).to_string();
    owned([
        "chaincode",
        verb,
        "--channelID",
        CHANNEL,
        "--name",
        chaincode,
        "--ctor",
        &call,
    ])
}
