// A photograph's verdict by an export that takes photographs (format=onnx), in C# with Microsoft.ML.OnnxRuntime.
//
// No test runs it; docs/deployment.md says with what it was run. Compare what it gives with check/expected.json first.
using System;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

public sealed class Classifier : IDisposable
{
    private static readonly string[] Verdicts = { "refer", "accept", "reject" };
    private readonly InferenceSession session;

    public Classifier(string modelPath) => session = new InferenceSession(modelPath);

    /// <param name="pixels">height x width x 3 bytes, R G B, upright (EXIF applied), nothing resized. A Bitmap of
    /// System.Drawing holds B G R, and its rows may be padded: copy and swap.</param>
    public (string Verdict, float Score, float Distance, long ClassIndex) Predict(byte[] pixels, int height, int width)
    {
        var images = new DenseTensor<byte>(pixels, new[] { 1, height, width, 3 });
        using var outputs = session.Run(new[] { NamedOnnxValue.CreateFromTensor("images", images) });
        var byName = outputs.ToDictionary(output => output.Name);
        long code = byName["verdict"].AsTensor<long>().Single();
        return (
            Verdicts[code],
            byName["score"].AsTensor<float>().Single(),
            byName["distance"].AsTensor<float>().Single(),
            byName["class_index"].AsTensor<long>().Single());
    }

    public void Dispose() => session.Dispose();
}
