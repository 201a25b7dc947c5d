// Writes the OuterXml of xades:SignedProperties as .NET does. Each line of
// standard input is the base64 of a document, each line of standard output the
// base64 of the answer.
//
//     mcs -r:System.Xml.dll outerxml.cs && mono outerxml.exe
using System;
using System.IO;
using System.Text;
using System.Xml;

class OuterXml
{
	static void Main()
	{
		string line;
		while ((line = Console.In.ReadLine()) != null)
		{
			var document = new XmlDocument { PreserveWhitespace = false };
			document.Load(new MemoryStream(Convert.FromBase64String(line)));
			var found = document.GetElementsByTagName("SignedProperties", "http://uri.etsi.org/01903/v1.3.2#");
			Console.Out.WriteLine(Convert.ToBase64String(new UTF8Encoding(false).GetBytes(found[0].OuterXml)));
		}
	}
}
