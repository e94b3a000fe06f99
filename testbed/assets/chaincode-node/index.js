// Chaincode for tests, in JavaScript through the contract API: what ../chaincode has, as far as tests of Node ask for it.
'use strict';

const fs = require('fs');
const net = require('net');
const os = require('os');

const { Contract } = require('fabric-contract-api');
const { missing } = require('testbed-words');

const { version } = require('./kind.json');

// A test that wants to see the true start and end of each process listens here; nobody else does.
const greetingAddress = { host: '10.88.0.1', port: 7999 };

class Testbed extends Contract {
    constructor() {
        super('testbed');
    }

    async Put(context, key, value) {
        await context.stub.putState(key, Buffer.from(value));
    }

    async Get(context, key) {
        const value = await context.stub.getState(key);
        if (value.length === 0) {
            throw new Error(missing(key));
        }
        return value.toString();
    }

    async version() {
        return version;
    }

    async exit(context, code) {
        console.error(`chaincode exits with ${code} as it was told`);
        process.exit(Number(code));
    }

    // Who runs, and which of these places it may write.
    async writable(context, places) {
        const found = JSON.parse(places).filter((place) => {
            try {
                fs.accessSync(place, fs.constants.W_OK);
                return true;
            } catch {
                return false;
            }
        });
        return JSON.stringify({ user: process.getuid(), writable: found });
    }
}

// Tells a listening test who runs. The connection stays open, so that its end is the end of the process.
function greet() {
    const connection = net.connect(greetingAddress, () => {
        connection.write(`hello ${process.env.CORE_CHAINCODE_ID_NAME} ${os.hostname()} ${process.pid}\n`);
    });
    connection.on('error', () => {});
    connection.unref();
}

console.error(`chaincode ${version} starts as ${process.env.CORE_CHAINCODE_ID_NAME}`);
greet();

exports.contracts = [Testbed];
