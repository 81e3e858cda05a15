#!/usr/bin/env python3
"""Speaks with bdh-inference by gRPC: status, models, generate.

The modules below bdh/ are made by protoc; README.md has the command.
"""
import argparse
import pathlib
import sys

import grpc
from bdh.v1 import inference_pb2, inference_pb2_grpc, mesh_pb2, mesh_pb2_grpc

DEADLINE_SECONDS = 60


class Mesh:
    """One daemon: its channel, and what every call to it carries."""

    def __init__(self, address, token_file=None, tls_folder=None, daemon="bdh-inference"):
        token = pathlib.Path(token_file).read_text().strip() if token_file else ""
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        if tls_folder is None:
            self.channel = grpc.insecure_channel(address)
            return
        folder = pathlib.Path(tls_folder)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=(folder / "ca.pem").read_bytes(),
            private_key=(folder / "bdhctl.key").read_bytes(),
            certificate_chain=(folder / "bdhctl.pem").read_bytes())
        # The mesh knows its daemons by name, whatever the address.
        self.channel = grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", daemon)])

    def call(self, method, request):
        return method(request, metadata=self.metadata, timeout=DEADLINE_SECONDS)


def status(mesh, _):
    stub = mesh_pb2_grpc.MeshServiceStub(mesh.channel)
    answer = mesh.call(stub.GetStatus, mesh_pb2.GetStatusRequest())
    print(f"{answer.daemon} {answer.version} {'is ready' if answer.ready else 'is not ready'}: {answer.key_figure}")


def models(mesh, _):
    stub = inference_pb2_grpc.InferenceServiceStub(mesh.channel)
    for model in mesh.call(stub.ListModels, inference_pb2.ListModelsRequest()).models:
        print(f"{model.id} from {model.checkpoint}, {model.parameter_count} parameters")


def generate(mesh, arguments):
    stub = inference_pb2_grpc.InferenceServiceStub(mesh.channel)
    request = inference_pb2.GenerateRequest(
        model=arguments.model,
        text=arguments.prompt,
        sampling=inference_pb2.SamplingParams(max_tokens=arguments.max_tokens, temperature=arguments.temperature))
    # Text comes as it is decoded; leaving the loop early cancels the generation.
    for part in mesh.call(stub.Generate, request):
        print(part.text, end="", flush=True)
        if part.HasField("usage"):
            print(f"\n({part.usage.prompt_tokens} + {part.usage.completion_tokens} tokens)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:7041")
    parser.add_argument("--token-file", help="DIR/token of a mesh that `bdhctl up` started")
    parser.add_argument("--tls", metavar="DIR", help="folder with ca.pem, bdhctl.pem and bdhctl.key")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("status").set_defaults(run=status)
    commands.add_parser("models").set_defaults(run=models)
    command = commands.add_parser("generate")
    command.add_argument("model")
    command.add_argument("prompt")
    command.add_argument("--max-tokens", type=int, default=64)
    command.add_argument("--temperature", type=float, default=1.0)
    command.set_defaults(run=generate)
    arguments = parser.parse_args()
    try:
        arguments.run(Mesh(arguments.address, arguments.token_file, arguments.tls), arguments)
    except grpc.RpcError as error:
        sys.exit(f"bdh_client: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
