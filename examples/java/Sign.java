import com.google.protobuf.ByteString;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;
import roamsign.v1.Signer.SignDocumentRequest;
import roamsign.v1.SignerServiceGrpc;

/**
 * Has one document signed by roamsignd and writes the signed one to standard output.
 *
 * <pre>java Sign HOST:PORT DIR TIN FILE</pre>
 *
 * DIR holds ca.pem (or tls-ca.pem), client.pem and client.key. Exit code 1: refused.
 */
public final class Sign {
  /** The largest answer, with a document of 2 MiB. */
  private static final int LARGEST = 3 << 20;

  private Sign() {}

  public static void main(String[] args) throws Exception {
    String address = args[0];
    Path folder = Path.of(args[1]);
    String tin = args[2];
    String name = args[3];
    byte[] document = Files.readAllBytes(Path.of(name));

    Path authority = folder.resolve("ca.pem");
    if (!Files.exists(authority)) {
      authority = folder.resolve("tls-ca.pem"); // dev mode's name for it
    }
    var tls = GrpcSslContexts.forClient()
        .protocols("TLSv1.3") // older releases would offer 1.2 alone
        .trustManager(authority.toFile())
        .keyManager(folder.resolve("client.pem").toFile(), folder.resolve("client.key").toFile())
        .build();
    var channel = NettyChannelBuilder.forTarget(address).sslContext(tls).maxInboundMessageSize(LARGEST).build();
    try {
      var request = SignDocumentRequest.newBuilder()
          .setTin(tin)
          .setDocument(ByteString.copyFrom(document))
          .setRequestId(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(document))) // the same at every try
          .build();
      var answer = SignerServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS).signDocument(request);
      for (String warning : answer.getWarningsList()) {
        System.err.println(name + ": warning: " + warning);
      }
      answer.getDocument().writeTo(System.out); // byte for byte what is to be submitted
      System.out.flush();
      System.err.println(name + ": entry " + answer.getLogIndex());
    } catch (StatusRuntimeException error) {
      System.err.println(name + ": " + error.getStatus().getCode() + ": " + error.getStatus().getDescription());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }
}
