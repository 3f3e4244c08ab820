<#
.SYNOPSIS
Stops the Fireworks proxy that listens on a local port.

.DESCRIPTION
Finds every process that listens on the port, stops those that are this proxy, and says what it did.
Another program on the port is named and left alone, unless -Force is given; Windows itself is left
alone in any case. A program counts as this proxy if its name begins with fireworks-proxy, as that of a
renamed download does. Written for Windows PowerShell 5.1 and PowerShell 7 on Windows.

The proxy saves the day's token count within a second of every answer, so stopping it this way loses
at most the last second of the count. Requests that are under way are cut off.

Exit codes:
  0  nothing listens on the port, or everything that did was stopped
  1  another program, or Windows itself, listens on the port and was left alone, or a parameter was not
     accepted
  2  a process could not be stopped, or it could not be found out who listens

.PARAMETER Port
The port, from 1 to 65535. The default is 8787, as for FIREWORKS_PROXY_PORT.

.PARAMETER Force
Stops whatever program listens on the port, even if it is not this proxy.

.EXAMPLE
.\kill_proxy.ps1

Stops the proxy on port 8787.

.EXAMPLE
.\kill_proxy.ps1 -Port 9000

Stops the proxy on port 9000.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\kill_proxy.ps1 -Port 9000 -Force

Stops whatever listens on port 9000, where the execution policy does not let scripts run.
#>
[CmdletBinding()]
param(
    [ValidateRange(1, 65535)]
    [int] $Port = 8787,

    [switch] $Force
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$ProxyName = 'fireworks-proxy'
$ExitLeftAlone = 1
$ExitFailed = 2

# The process of Windows itself, which listens for all programs that use its HTTP service (http.sys), and
# its idle process, which is named for a socket whose process is gone.
$SystemIds = 0, 4

# How long a process may take to end after it was told to.
$EndMilliseconds = 5000

# The ids of the processes that listen on a port; one process may listen on several addresses.
function Get-ListenerId {
    param([int] $LocalPort)

    if (Get-Command -Name 'Get-NetTCPConnection' -ErrorAction SilentlyContinue) {
        try {
            $listeners = @(Get-NetTCPConnection -State Listen -LocalPort $LocalPort -ErrorAction Stop)
            return $listeners | ForEach-Object { [int] $_.OwningProcess } | Sort-Object -Unique
        }
        catch {
            # Finding nothing is an error to this command. Any other error leaves netstat to ask.
            if ($_.CategoryInfo.Category -eq 'ObjectNotFound') {
                return
            }
        }
    }
    Get-ListenerIdFromNetstat -LocalPort $LocalPort
}

# The same from the lines of netstat, such as
#   TCP    127.0.0.1:8787    0.0.0.0:0    LISTENING    4242
# The word for the state differs with the language of Windows; a foreign port of 0 says the same.
function Get-ListenerIdFromNetstat {
    param([int] $LocalPort)

    $lines = @(& netstat.exe -ano)
    if ($LASTEXITCODE -ne 0) {
        throw "netstat ended with exit code $LASTEXITCODE"
    }
    # An array in any case: of no line at all, a bare result would be $null, and that is one thing to sort.
    $ids = @(foreach ($line in $lines) {
        $fields = @("$line".Trim() -split '\s+')
        if ($fields.Count -ge 4 -and $fields[0] -eq 'TCP' -and
            $fields[1].EndsWith(":$LocalPort") -and $fields[2].EndsWith(':0') -and
            $fields[-1] -match '^\d+$') {
            [int] $fields[-1]
        }
    })
    $ids | Sort-Object -Unique
}

if ([Environment]::OSVersion.Platform -ne 'Win32NT') {
    Write-Warning ("This script is for Windows. Here, 'lsof -nP -iTCP:$Port -sTCP:LISTEN' shows " +
        "what listens on port $Port, and 'kill' with its process id stops it.")
    exit $ExitFailed
}

try {
    $ids = @(Get-ListenerId -LocalPort $Port)
}
catch {
    Write-Warning "Cannot find out what listens on port ${Port}: $($_.Exception.Message)"
    exit $ExitFailed
}

if ($ids.Count -eq 0) {
    Write-Output "Nothing listens on port $Port."
    exit 0
}

$leftAlone = 0
$failed = 0
foreach ($id in $ids) {
    if ($SystemIds -contains $id) {
        Write-Warning ("Windows itself (process $id) listens on port $Port, for a program that uses its HTTP " +
            "service. 'netsh http show servicestate' names it. Stop that program, or set " +
            "FIREWORKS_PROXY_PORT to another port.")
        $leftAlone += 1
        continue
    }
    $process = Get-Process -Id $id -ErrorAction SilentlyContinue
    if ($null -eq $process) {
        Write-Output "Process $id listened on port $Port and has ended by itself."
        continue
    }
    $label = "$($process.ProcessName) (process $id)"

    if ($process.ProcessName -notlike "$ProxyName*" -and -not $Force) {
        Write-Warning ("$label listens on port $Port. It is not $ProxyName and was left alone. Use " +
            "-Force to stop it all the same, or set FIREWORKS_PROXY_PORT to another port.")
        $leftAlone += 1
        continue
    }

    try {
        # -Force only keeps it from asking back about processes of other users.
        Stop-Process -InputObject $process -Force -ErrorAction Stop
        $hasEnded = $process.WaitForExit($EndMilliseconds)
        $reason = 'it was told to end and is still running.'
    }
    catch {
        $hasEnded = $null -eq (Get-Process -Id $id -ErrorAction SilentlyContinue)
        $reason = "$($_.Exception.Message) Run this script as administrator."
    }
    if ($hasEnded) {
        Write-Output "Stopped $label, which listened on port $Port."
    }
    else {
        Write-Warning "Cannot stop ${label}, which listens on port ${Port}: $reason"
        $failed += 1
    }
}

if ($failed -gt 0) {
    exit $ExitFailed
}
if ($leftAlone -gt 0) {
    exit $ExitLeftAlone
}
exit 0
