"""Has one document signed by roamsignd and writes the signed one to standard output.

    sign.py HOST:PORT DIR TIN FILE

DIR holds ca.pem (or tls-ca.pem), client.pem and client.key. Exit code 1: refused.
"""

import hashlib
import pathlib
import sys

import grpc

from roamsign.v1 import signer_pb2, signer_pb2_grpc

# The largest request, with a document of 2 MiB, and the largest answer.
LARGEST = 3 << 20


def channel(address: str, folder: pathlib.Path) -> grpc.Channel:
    """Connects with the client certificate in the folder."""
    authority = folder / "ca.pem"
    if not authority.exists():
        authority = folder / "tls-ca.pem"  # dev mode's name for it
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authority.read_bytes(),
        private_key=(folder / "client.key").read_bytes(),
        certificate_chain=(folder / "client.pem").read_bytes(),
    )
    options = [("grpc.max_send_message_length", LARGEST), ("grpc.max_receive_message_length", LARGEST)]
    return grpc.secure_channel(address, credentials, options)


def main() -> int:
    address, folder, tin, name = sys.argv[1:]
    document = pathlib.Path(name).read_bytes()
    request = signer_pb2.SignDocumentRequest(
        tin=tin,
        document=document,
        request_id=hashlib.sha256(document).hexdigest(),  # the same at every try
    )
    with channel(address, pathlib.Path(folder)) as connection:
        signer = signer_pb2_grpc.SignerServiceStub(connection)
        try:
            answer = signer.SignDocument(request, timeout=10)
        except grpc.RpcError as error:
            print(f"{name}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    for warning in answer.warnings:
        print(f"{name}: warning: {warning}", file=sys.stderr)
    sys.stdout.buffer.write(answer.document)  # byte for byte what is to be submitted
    print(f"{name}: entry {answer.log_index}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
