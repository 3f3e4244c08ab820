<#
.SYNOPSIS
Tries kill_proxy.ps1 in earnest, on Windows: nothing listens, another program does, several processes do.

.DESCRIPTION
Uses port 18787. That somebody has no rights is not tried here, since it needs a second user.

.PARAMETER Program
The proxy.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)]
    [string] $Program
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$Port = 18787
$KillScript = Join-Path -Path $PSScriptRoot -ChildPath '..\..\kill_proxy.ps1'

# How long a start may take, in steps of 100 ms.
$StartSteps = 300

# Runs the script in a PowerShell of its own, since it ends with exit.
function Assert-Kill {
    param([int] $ExitCode, [string] $Says, [switch] $Forced)

    $more = @()
    if ($Forced) {
        $more = @('-Force')
    }
    $said = (& powershell.exe -NoProfile -ExecutionPolicy Bypass -File $KillScript -Port $Port @more |
        Out-String -Width 4096)
    # A warning is broken into lines of the console's width, wherever that is.
    $said = $said -replace '\s+', ' '
    if ($LASTEXITCODE -ne $ExitCode -or -not $said.Contains($Says)) {
        throw "wanted exit code $ExitCode and '$Says', got $LASTEXITCODE and: $said"
    }
    Write-Output "as it should be: $($said.Trim())"
}

function Start-Proxy {
    param([string] $Address)

    $env:FIREWORKS_PROXY_PORT = "$Port"
    $env:FIREWORKS_PROXY_HOST = $Address
    $folder = New-Item -ItemType Directory -Path (Join-Path -Path $env:TEMP -ChildPath ([Guid]::NewGuid()))
    $process = Start-Process -FilePath (Resolve-Path -LiteralPath $Program) -WorkingDirectory $folder `
        -WindowStyle Hidden -PassThru
    for ($step = 0; $step -lt $StartSteps; $step += 1) {
        if (Get-NetTCPConnection -State Listen -LocalPort $Port -LocalAddress $Address -ErrorAction Ignore) {
            return $process
        }
        Start-Sleep -Milliseconds 100
    }
    throw "the proxy does not listen on $Address"
}

Assert-Kill -ExitCode 0 -Says 'Nothing listens on port'

$two = (Start-Proxy -Address '127.0.0.1'), (Start-Proxy -Address '::1')
Assert-Kill -ExitCode 0 -Says 'Stopped fireworks-proxy'
if ($two | Where-Object { -not $_.HasExited }) {
    throw 'one of two proxies runs on'
}

$listener = New-Object -TypeName Net.Sockets.TcpListener -ArgumentList ([Net.IPAddress]::Loopback), $Port
$listener.Start()
Assert-Kill -ExitCode 1 -Says 'left alone'
$listener.Stop()

Assert-Kill -ExitCode 0 -Says 'Nothing listens on port'
