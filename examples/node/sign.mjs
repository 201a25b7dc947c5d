// Has one document signed by roamsignd and writes the signed one to standard output.
//
//     node sign.mjs HOST:PORT DIR TIN FILE
//
// DIR holds ca.pem (or tls-ca.pem), client.pem and client.key. Exit code 1: refused.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

// The largest request, with a document of 2 MiB, and the largest answer.
const LARGEST = 3 << 20;

const protos = fileURLToPath(new URL('../../proto', import.meta.url));
const { SignerService } = grpc.loadPackageDefinition(
  loadSync('roamsign/v1/signer.proto', { includeDirs: [protos], longs: String, defaults: true }),
).roamsign.v1;

/** Connects with the client certificate in the folder. */
function connect(address, folder) {
  const read = (name) => readFileSync(join(folder, name));
  const authority = existsSync(join(folder, 'ca.pem')) ? 'ca.pem' : 'tls-ca.pem'; // dev mode's name for it
  const credentials = grpc.credentials.createSsl(read(authority), read('client.key'), read('client.pem'));
  return new SignerService(address, credentials, {
    'grpc.max_send_message_length': LARGEST,
    'grpc.max_receive_message_length': LARGEST,
  });
}

const [address, folder, tin, name] = process.argv.slice(2);
const document = readFileSync(name);
const signer = connect(address, folder);
const request = {
  tin,
  document,
  requestId: createHash('sha256').update(document).digest('hex'), // the same at every try
};
signer.SignDocument(request, { deadline: Date.now() + 10_000 }, (error, answer) => {
  signer.close();
  if (error) {
    console.error(`${name}: ${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
    return;
  }
  for (const warning of answer.warnings) console.error(`${name}: warning: ${warning}`);
  let rest = answer.document; // byte for byte what is to be submitted
  while (rest.length > 0) rest = rest.subarray(writeSync(process.stdout.fd, rest));
  console.error(`${name}: entry ${answer.logIndex}`);
});
