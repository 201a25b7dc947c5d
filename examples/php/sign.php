<?php
// Has one document signed by roamsignd and writes the signed one to standard output.
//
//     php -d include_path=STUBS:/usr/share/php sign.php HOST:PORT DIR TIN FILE
//
// DIR holds ca.pem (or tls-ca.pem), client.pem and client.key. Exit code 1: refused.
//
// It speaks gRPC by curl's HTTP/2, so that the PECL extension grpc is not needed: a call
// with one request and one answer is a POST of one message, five bytes before it.

declare(strict_types=1);

use Roamsign\V1\SignDocumentRequest;
use Roamsign\V1\SignDocumentResponse;

spl_autoload_register(function (string $class): void {
    require str_replace('\\', '/', $class) . '.php';
});

const CODES = [3 => 'INVALID_ARGUMENT', 4 => 'DEADLINE_EXCEEDED', 7 => 'PERMISSION_DENIED', 8 => 'RESOURCE_EXHAUSTED',
    9 => 'FAILED_PRECONDITION', 13 => 'INTERNAL', 14 => 'UNAVAILABLE', 16 => 'UNAUTHENTICATED'];

/** Calls a method of the service and fills the answer, or throws why there is none. */
function call(string $address, string $folder, string $method, string $request, object $answer): void
{
    $authority = is_file("$folder/ca.pem") ? 'ca.pem' : 'tls-ca.pem'; // dev mode's name for it
    $trailers = [];
    $curl = curl_init("https://$address/roamsign.v1.SignerService/$method");
    curl_setopt_array($curl, [
        CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_2TLS,
        CURLOPT_SSLVERSION => CURL_SSLVERSION_TLSv1_3,
        CURLOPT_CAINFO => "$folder/$authority",
        CURLOPT_SSLCERT => "$folder/client.pem",
        CURLOPT_SSLKEY => "$folder/client.key",
        CURLOPT_TIMEOUT => 10, // seconds
        CURLOPT_HTTPHEADER => ['Content-Type: application/grpc+proto', 'TE: trailers', 'grpc-timeout: 10S', 'Expect:'],
        CURLOPT_POSTFIELDS => "\0" . pack('N', strlen($request)) . $request, // not compressed, its length, itself
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$trailers): int {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $trailers[strtolower(trim($name))] = trim($value);
            return strlen($line);
        },
    ]);
    $body = curl_exec($curl);
    if ($body === false) {
        throw new RuntimeException('UNAVAILABLE: ' . curl_error($curl));
    }
    $status = (int) ($trailers['grpc-status'] ?? 2);
    if ($status !== 0) {
        throw new RuntimeException((CODES[$status] ?? "status $status") . ': ' . rawurldecode($trailers['grpc-message'] ?? ''));
    }
    $answer->mergeFromString(substr($body, 5));
}

[, $address, $folder, $tin, $name] = $argv;
$document = file_get_contents($name);
$request = (new SignDocumentRequest())
    ->setTin($tin)
    ->setDocument($document)
    ->setRequestId(hash('sha256', $document)); // the same at every try
$answer = new SignDocumentResponse();
try {
    call($address, $folder, 'SignDocument', $request->serializeToString(), $answer);
} catch (RuntimeException $error) {
    fwrite(STDERR, "$name: {$error->getMessage()}\n");
    exit(1);
}
foreach ($answer->getWarnings() as $warning) {
    fwrite(STDERR, "$name: warning: $warning\n");
}
fwrite(STDOUT, $answer->getDocument()); // byte for byte what is to be submitted
fwrite(STDERR, "$name: entry {$answer->getLogIndex()}\n");
